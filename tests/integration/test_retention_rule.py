"""How long each level may be kept: raw rows no longer than minutes, minutes than hours."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from ledger.ddl.compare import amiss
from ledger.ddl.declared import DECLARED
from ledger.ddl.migrate import check
from ledger.ddl.objects import Retention
from ledger.ddl.retention import LEVELS, LONGEST, set_retention, wishes
from ledger.engine import engine
from ledger.errors import InvalidArgument, PermissionMissing, RetentionRefused, SchemaNotReady
from ledger.settings import Storage
from ledger.window import HOUR, Window
from tests.books import call, opened
from tests.catalogues import until
from tests.databases import Databases, Target
from tests.roles import roles_of

pytestmark = pytest.mark.every_target

DAY = timedelta(days=1)
DEFAULTS = {"raw": 90 * DAY, "1m": 90 * DAY, "1h": 730 * DAY}


@pytest.fixture(scope="module")
def shared_url(databases: Databases, target: Target) -> Iterator[str]:
    """A database in which tests roll back whatever they change."""
    name = databases.create(target.server, template=databases.template(target))
    yield databases.url(target.server, name)
    databases.drop(name)


@contextmanager
def changing(url: str) -> Iterator[Connection]:
    """A transaction that is committed at the end."""
    owner = engine(url)
    try:
        with owner.begin() as connection:
            yield connection
    finally:
        owner.dispose()


@contextmanager
def trying(url: str) -> Iterator[Connection]:
    """A transaction that is rolled back at the end."""
    with changing(url) as connection, connection.begin_nested() as savepoint:
        yield connection
        savepoint.rollback()


def is_allowed(kept: dict[str, timedelta]) -> bool:
    return DAY <= kept["raw"] <= kept["1m"] <= kept["1h"]


def state(connection: Connection, target: Target) -> dict[str, Any]:
    """What is wished, what the policies do, and where raw rows begin."""
    found = {"wishes": wishes(connection), "raw_from": raw_from(connection)}
    if target.storage is Storage.TIMESCALE:
        policies = connection.exec_driver_sql(
            """SELECT coalesce(view_name, j.hypertable_name), (config ->> 'drop_after')::interval
FROM timescaledb_information.jobs j LEFT JOIN timescaledb_information.continuous_aggregates a
  ON j.hypertable_name = a.materialization_hypertable_name
WHERE proc_name = 'policy_retention' AND scheduled"""
        )
        found["policies"] = {policy[0]: policy[1] for policy in policies}
    return found


def raw_from(connection: Connection) -> datetime:
    moment: datetime = connection.exec_driver_sql("SELECT ledger.raw_from()").scalar_one()
    return moment


KEEPS = st.sampled_from(
    [-DAY, 0 * DAY, 23 * HOUR, DAY, 36 * HOUR, 7 * DAY, 30 * DAY, 90 * DAY, 91 * DAY, 730 * DAY]
)


@given(changes=st.lists(st.tuples(st.sampled_from(sorted(LEVELS)), KEEPS), max_size=8))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_only_what_keeps_each_level_as_long_as_the_one_below_is_allowed(
    shared_url: str, target: Target, changes: list[tuple[str, timedelta]]
) -> None:
    kept = dict(DEFAULTS)
    with trying(shared_url) as connection:
        for level, keep in changes:
            before = state(connection, target)
            if is_allowed(kept | {level: keep}):
                set_retention(connection, level, keep)
                kept[level] = keep
            else:
                with pytest.raises(
                    RetentionRefused, match=r"the shortest is 1 day|raw <= 1m <= 1h"
                ):
                    set_retention(connection, level, keep)
                assert state(connection, target) == before
            after = state(connection, target)
            assert after["wishes"] == kept
            if target.storage is Storage.TIMESCALE:
                assert after["policies"] == {LEVELS[name]: keep for name, keep in kept.items()}
            assert amiss(connection, RETENTIONS) == []


RETENTIONS = [declared for declared in DECLARED if isinstance(declared, Retention)]


def test_a_refusal_names_the_level_and_what_is_kept(shared_url: str) -> None:
    with trying(shared_url) as connection:
        with pytest.raises(RetentionRefused, match="llm_metrics_1h cannot be kept for 12:00:00"):
            set_retention(connection, "1h", 12 * HOUR)
        with pytest.raises(
            RetentionRefused, match="raw rows for 90 days, minutes for 14 days, hours for 730 days"
        ):
            set_retention(connection, "1m", 14 * DAY)


@pytest.mark.parametrize(
    "level, keep", [("1d", DAY), ("raw", 1.5 * timedelta(seconds=1)), ("1h", LONGEST + DAY)]
)
def test_a_level_or_a_time_there_is_not_is_an_invalid_argument(
    shared_url: str, target: Target, level: str, keep: timedelta
) -> None:
    with trying(shared_url) as connection:
        before = state(connection, target)
        with pytest.raises(InvalidArgument):
            set_retention(connection, level, keep)
        assert state(connection, target) == before


def test_everything_can_be_kept_for_the_longest_time(shared_url: str) -> None:
    with trying(shared_url) as connection:
        for level in ("1h", "1m", "raw"):
            set_retention(connection, level, LONGEST)
        assert wishes(connection) == dict.fromkeys(LEVELS, LONGEST)
        assert raw_from(connection) is not None


def test_raising_what_was_lowered_does_not_bring_rows_back(shared_url: str) -> None:
    with trying(shared_url) as connection:
        set_retention(connection, "raw", 30 * DAY)
        lowered = raw_from(connection)
        set_retention(connection, "raw", 90 * DAY)

        assert raw_from(connection) == lowered
        now = connection.exec_driver_sql("SELECT now()").scalar_one()
        assert now - 30 * DAY <= lowered <= now - 30 * DAY + HOUR


def test_lowering_rejects_older_rows_at_once_and_raising_does_not_accept_them(
    database_url: str, target: Target
) -> None:
    with opened(database_url, target) as books:
        old = call(books.day(ago=40), 1)
        for keep in (30 * DAY, 90 * DAY):
            books.keep("raw", keep)
            report = books.ledger.telemetry.insert_transactions([old])
            assert (report.inserted, report.rejected_count) == (0, 1)
    assert [str(found) for found in check(database_url) if not found.is_warning] == []


def is_waiting(url: str) -> bool:
    """Whether a session of this database waits for another."""
    with changing(url) as connection:
        return bool(
            connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).scalar_one()
        )


def test_two_sessions_do_not_reach_together_what_each_alone_is_allowed(
    database_url: str, target: Target
) -> None:
    with changing(database_url) as connection:
        set_retention(connection, "raw", 30 * DAY)

    def lower_minutes() -> None:
        with changing(database_url) as other:
            set_retention(other, "1m", 30 * DAY)

    with ThreadPoolExecutor(1) as threads:
        with changing(database_url) as connection:
            set_retention(connection, "raw", 90 * DAY)
            lowering = threads.submit(lower_minutes)
            until(lambda: is_waiting(database_url), "the other session, waiting")
        with pytest.raises(RetentionRefused):
            lowering.result()
    with changing(database_url) as connection:
        assert state(connection, target)["wishes"] == DEFAULTS


def test_only_the_owner_may_change_it(shared_url: str, target: Target) -> None:
    with roles_of(shared_url) as roles:
        service = roles.granted("service")
        with changing(service.url) as connection:
            before = state(connection, target)
            with pytest.raises(PermissionMissing):
                set_retention(connection, "raw", 30 * DAY)
            assert state(connection, target) == before


def test_a_database_without_a_ledger_has_no_retention(empty_database_url: str) -> None:
    with changing(empty_database_url) as connection, pytest.raises(SchemaNotReady):
        set_retention(connection, "raw", 30 * DAY)


@pytest.mark.storage("timescale")
def test_minutes_that_go_before_raw_rows_would_erase_an_hour(
    database_url: str, target: Target
) -> None:
    """What the rule is for: a late row rebuilds its hour from the minutes that are left."""
    with opened(database_url, target) as books:
        hour = books.day(ago=30)
        books.write(call(hour + timedelta(minutes=n), n) for n in range(60))
        books.ledger.maintenance.run()
        books.sql("SELECT drop_chunks('ledger.llm_metrics_1m', INTERVAL '14 days')")
        books.write([call(hour + timedelta(minutes=30, seconds=5), 99)])
        books.ledger.maintenance.run()

        left = books.rolled_up(LEVELS["1h"], Window(start=hour, end=hour + HOUR))
        assert left.requests < 61
