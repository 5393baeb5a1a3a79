"""The arguments that every read takes, and what is refused among them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine

from ledger import ALL_USERS, AsyncLedger, InvalidArgument, Ledger, SchemaNotReady, Window
from ledger.queries.opening import installed
from ledger.queries.scope import Scope, asked_window, scope
from ledger.window import HOUR

NOW = datetime(2026, 6, 15, 12, 34, 56, 789_123, tzinfo=UTC)
USER = UUID("0b5c6d1e-5a0f-4c1d-9d57-6f1f3c0b7a10")


def test_a_user_is_a_uuid_or_its_text() -> None:
    for user in (USER, str(USER), USER.hex):
        assert scope(user, provider=None, model=None).user_id == USER


def test_all_users_has_to_be_said() -> None:
    everybody = scope(ALL_USERS, provider="openai", model=None)
    assert everybody == Scope(user_id=None, provider="openai", model=None)
    assert everybody.parameters == {"provider": "openai"}
    assert repr(ALL_USERS) == "ALL_USERS"


@pytest.mark.parametrize("user", [None, "", "all users", 7, USER.bytes])
def test_what_is_no_user_is_refused(user: Any) -> None:
    with pytest.raises(InvalidArgument, match="ALL_USERS"):
        scope(user, provider=None, model=None)


@pytest.mark.parametrize("name", [7, "open\0ai", "\ud800"])
def test_a_name_is_text_that_the_database_can_hold(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="model"):
        scope(USER, provider=None, model=name)


def test_an_interval_ends_after_the_present_millisecond() -> None:
    end = asked_window("1H", at=None, now=NOW).end
    assert end == datetime(2026, 6, 15, 12, 34, 56, 790_000, tzinfo=UTC)


def test_a_window_is_taken_as_it_is_and_has_no_other_end() -> None:
    window = Window(start=NOW - HOUR, end=NOW)
    assert asked_window(window, at=None, now=NOW) is window
    with pytest.raises(InvalidArgument, match="`at`"):
        asked_window(window, at=NOW, now=NOW)


@pytest.mark.parametrize("asked", [timedelta(days=1), None, 7])
def test_what_is_no_window_is_refused(asked: Any) -> None:
    with pytest.raises(InvalidArgument, match="Window"):
        asked_window(asked, at=None, now=NOW)


def test_an_interval_before_the_calendar_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="calendar"):
        asked_window("7D", at=datetime(1, 1, 2, tzinfo=UTC), now=NOW)


def test_no_installation_is_no_schema() -> None:
    with pytest.raises(SchemaNotReady, match="ledger db upgrade"):
        installed([])


def test_a_ledger_is_bound_to_postgresql_and_by_its_own_kind() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        bound = Ledger.bound(connection)
        with pytest.raises(InvalidArgument, match="sqlite"):
            bound.telemetry.overview(USER, "7D")
        with pytest.raises(InvalidArgument, match="AsyncLedger"):
            Ledger.bound("postgresql://host/books")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="or use Ledger"):
            AsyncLedger.bound(connection)  # type: ignore[arg-type]
    engine.dispose()


async def test_maintenance_is_not_for_a_callers_connection() -> None:
    ledger = AsyncLedger.connect("postgresql://127.0.0.1:9/books", "postgresql://127.0.0.1:9/copy")
    assert ledger.maintenance is not None
    await ledger.close()
