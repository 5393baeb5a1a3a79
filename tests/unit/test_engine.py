"""URLs in any form, engines that connect on first use, and no password anywhere."""

from __future__ import annotations

import traceback
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, event
from sqlalchemy.exc import OperationalError

from ledger import AsyncLedger, DatabaseUnavailable, InvalidSettings, Ledger
from ledger.engine import database_url, engine, shown, translated_errors

SECRET = "hunter2"


@pytest.mark.parametrize(
    "form", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg_async"]
)
def test_every_form_of_url_becomes_psycopgs(form: str) -> None:
    url = database_url(f"{form}://me:{SECRET}@host:5433/books?sslmode=require")
    assert url == URL.create(
        "postgresql+psycopg",
        username="me",
        password=SECRET,
        host="host",
        port=5433,
        database="books",
        query={"sslmode": "require"},
    )


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://me:{SECRET}@host/books",
        f"postgresql+asyncpg://me:{SECRET}@host/books",
        f"postgresql://me:{SECRET}@host:port/books",
        f"postgresql://me:{SECRET}@{SECRET}@host/books",
        f"{SECRET}",
        f"postgresql://host/books?password={SECRET}&pgbouncer=maybe",
        f"{SECRET}\n://me@host",
    ],
)
def test_a_url_that_is_refused_is_not_repeated(url: str) -> None:
    for open_ledger in (Ledger.connect, AsyncLedger.connect):
        with pytest.raises(InvalidSettings) as refused:
            open_ledger(url)
        told = "".join(traceback.format_exception(refused.value, limit=0))
        assert SECRET not in told


def test_a_url_is_shown_without_its_password() -> None:
    assert shown(f"postgres://me:{SECRET}@host/books") == "postgresql+psycopg://me:***@host/books"
    assert SECRET not in shown(f"postgres://me@host/books?password={SECRET}")


def test_an_unreachable_database_is_told_without_its_password() -> None:
    with Ledger.connect(f"postgres://me:{SECRET}@127.0.0.1:9/books") as ledger:
        with pytest.raises(DatabaseUnavailable) as refused:
            ledger.telemetry.overview("00000000-0000-4000-8000-000000000000", "7D")
        assert SECRET not in "".join(traceback.format_exception(refused.value, limit=0))
        assert SECRET not in repr(vars(ledger))


@pytest.mark.parametrize(
    "query, pooled, is_prepared",
    [
        ("", False, True),
        ("?pgbouncer=false", False, True),
        ("?pgbouncer=true", False, False),
        ("", True, False),
    ],
)
def test_behind_pgbouncer_nothing_is_prepared(
    query: str, *, pooled: bool, is_prepared: bool
) -> None:
    opened = engine(f"postgres://host/books{query}", pooled_by_pgbouncer=pooled)
    asked: dict[str, object] = {}

    @event.listens_for(opened, "do_connect")
    def note(*given: Any) -> None:
        asked.update(given[3])
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        opened.connect()
    assert ("prepare_threshold" not in asked) == is_prepared
    assert asked.get("prepare_threshold") is None
    assert not {"pgbouncer", "options"} & set(asked)


def test_what_no_error_of_ours_says_passes_as_it_is() -> None:
    timed_out = OperationalError("SELECT 1", {}, psycopg.errors.QueryCanceled("statement timeout"))
    with pytest.raises(OperationalError), translated_errors():
        raise timed_out
