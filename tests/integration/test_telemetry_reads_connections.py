"""Reads on every kind of connection: one statement each, nothing committed, errors of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from ledger import (
    ALL_USERS,
    AsyncLedger,
    DatabaseUnavailable,
    InvalidArgument,
    Ledger,
    Overview,
    PermissionMissing,
    RawRowsGone,
    SchemaNotReady,
    StorageMismatch,
    TooManyBuckets,
    Transaction,
    Window,
)
from ledger.ddl import access
from ledger.repositories import reader
from ledger.settings import Percentiles, Storage
from ledger.window import HOUR, floor
from tests import oracle
from tests.databases import Target
from tests.readings import Database, asking, scattered, someone, write
from tests.sent import Sent, sent_by_reads

READS = (
    "overview",
    "time_series",
    "provider_model_latency",
    "daily_model_cost",
    "error_rate",
)


@pytest.fixture
def database(database_url: str, target: Target) -> Database:
    database = Database(url=database_url, storage=target.storage)
    database.stop_jobs()
    return database


@pytest.fixture
def rows(database: Database) -> list[Transaction]:
    """Some of them rolled up."""
    rows = scattered(someone(), database.now, count=60)
    with asking("sync", database.url) as ask:
        write(ask, rows)
    database.refresh()
    return rows


def host_engine(url: str, driver: str) -> Engine:
    """An engine as a host would make it, with nothing of the ledger's."""
    return create_engine(make_url(url).set(drivername=f"postgresql+{driver}"), poolclass=NullPool)


def everything(telemetry: Any, user: UUID) -> list[Any]:
    return [getattr(telemetry, name)(user, "7D") for name in READS]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_bound_session_or_connection_reads_and_commits_nothing(
    driver: str, database: Database, rows: list[Transaction]
) -> None:
    user = rows[0].user_id
    engine = host_engine(database.url, driver)
    with engine.connect() as connection:
        on_connection = Ledger.bound(connection).telemetry
        for window in ("15M", "7D"):
            oracle.assert_overview(on_connection.overview(user, window), rows)
        assert [len(answer) for answer in everything(on_connection, user)[2:]]
        assert connection.in_transaction()
    with Session(engine) as session:
        bound = Ledger.bound(session).telemetry
        costs = bound.daily_model_cost(user, "7D", timezone="Asia/Kolkata")
        assert list(costs) == oracle.daily_model_costs(rows, costs.window, "Asia/Kolkata")
        series = bound.time_series(user, "7D", bucket=HOUR)
        oracle.assert_time_series(series, rows, series.window, HOUR, series.percentile_error)
        assert session.in_transaction()
    engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_bound_asynchronous_session_reads_on_any_driver(
    driver: str, database: Database, rows: list[Transaction]
) -> None:
    user = rows[0].user_id
    url = make_url(database.url).set(drivername=f"postgresql+{driver}")
    engine = create_async_engine(url, poolclass=NullPool)
    async with AsyncSession(engine) as session:
        bound = AsyncLedger.bound(session).telemetry
        for window in ("15M", "7D"):
            oracle.assert_overview(await bound.overview(user, window), rows)
        costs = await bound.daily_model_cost(user, "7D", timezone="Asia/Kolkata")
        assert list(costs) == oracle.daily_model_costs(rows, costs.window, "Asia/Kolkata")
        series = await bound.time_series(user, "7D", bucket=HOUR)
        oracle.assert_time_series(series, rows, series.window, HOUR, series.percentile_error)
        latencies = await bound.provider_model_latency(ALL_USERS, "7D")
        oracle.assert_latencies(latencies, rows, latencies.window, latencies.percentile_error)
        rates = await bound.error_rate(user, "7D")
        assert list(rates) == oracle.error_rates(rows, rates.window)
        assert session.in_transaction()
        with pytest.raises(InvalidArgument, match=r"AsyncLedger\.connect"):
            _ = AsyncLedger.bound(session).maintenance
    await engine.dispose()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_read_is_one_statement_once_the_horizon_is_known(
    kind: str, database: Database, rows: list[Transaction]
) -> None:
    with asking(kind, database.url) as ask, sent_by_reads() as sent:
        ask("overview", rows[0].user_id, "7D")
        assert [statement.is_opening for statement in sent] == [True, False]
        for name in READS:
            for window in ("1H", "7D"):
                sent.clear()
                ask(name, rows[0].user_id, window)
                assert [statement.is_opening for statement in sent] == [False], name


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_is_remembered_is_held_against_the_database(
    kind: str, database: Database, rows: list[Transaction]
) -> None:
    user = rows[0].user_id
    with asking(kind, database.url) as ask:
        oracle.assert_overview(ask("overview", user, "7D"), rows)
        late = scattered(user, database.now - timedelta(days=2), count=7)
        write(ask, late)
        if database.storage is Storage.TIMESCALE:
            database.refresh()
        oracle.assert_overview(ask("overview", user, "7D"), rows + late)
        database.refresh()
        oracle.assert_overview(ask("overview", user, "7D"), rows + late)
        # As after a restore: the books say that nothing is rolled up.
        database.sql("UPDATE ledger.rollup_progress SET watermark = '-infinity'")
        if database.storage is Storage.POSTGRES:
            database.sql("DELETE FROM ledger.llm_metrics_1h_materialized")
        oracle.assert_overview(ask("overview", user, "7D"), rows + late)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_present_is_the_databases_though_our_clock_stood_still(
    kind: str, database: Database, rows: list[Transaction], monkeypatch: pytest.MonkeyPatch
) -> None:
    with asking(kind, database.url) as ask:
        ask("overview", rows[0].user_id, "1H")
        # As on a machine that slept in between.
        slept = monotonic() - 3600
        monkeypatch.setattr(reader, "monotonic", lambda: slept)
        with sent_by_reads() as sent:
            window = ask("overview", rows[0].user_id, "1H").window
    assert abs(window.end - datetime.now(UTC)) < timedelta(minutes=1)
    assert [statement.is_opening for statement in sent] == [False, False]


def test_a_failed_read_leaves_a_bound_transaction_usable(
    database: Database, rows: list[Transaction]
) -> None:
    engine = host_engine(database.url, "psycopg")
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE of_the_host (n int)"))
        connection.execute(text("ALTER TABLE ledger.installation RENAME TO elsewhere"))
        bound = Ledger.bound(connection).telemetry
        with pytest.raises(SchemaNotReady):
            bound.overview(rows[0].user_id, "7D")
        connection.execute(text("ALTER TABLE ledger.elsewhere RENAME TO installation"))
        oracle.assert_overview(bound.overview(rows[0].user_id, "7D"), rows)
        assert connection.scalar(text("SELECT count(*) FROM of_the_host")) == 0
    engine.dispose()


def test_a_bound_connection_in_autocommit_reads_too(
    database: Database, rows: list[Transaction]
) -> None:
    engine = host_engine(database.url, "psycopg").execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        oracle.assert_overview(
            Ledger.bound(connection).telemetry.overview(rows[0].user_id, "7D"), rows
        )
    engine.dispose()


@pytest.mark.parametrize("isolation_level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_bound_reads_share_the_snapshot_of_their_transaction(
    isolation_level: Any, database: Database, rows: list[Transaction]
) -> None:
    user = rows[0].user_id
    engine = host_engine(database.url, "psycopg").execution_options(isolation_level=isolation_level)
    with engine.connect() as connection:
        bound = Ledger.bound(connection).telemetry
        before = bound.overview(user, "7D", at=database.now)
        with asking("sync", database.url) as ask:
            write(ask, scattered(user, database.now, count=7))
        database.refresh()
        assert bound.overview(user, "7D", at=database.now) == before
    engine.dispose()


def test_a_granted_service_reads_without_owning_anything(
    database: Database, rows: list[Transaction], service: str
) -> None:
    engine = host_engine(database.url, "psycopg")
    with engine.connect() as connection:
        connection.execute(text(f"SET LOCAL ROLE {service}"))
        bound = Ledger.bound(connection).telemetry
        oracle.assert_overview(bound.overview(rows[0].user_id, "7D"), rows)
        costs = bound.daily_model_cost(ALL_USERS, "7D", timezone="Asia/Kolkata")
        assert list(costs) == oracle.daily_model_costs(rows, costs.window, "Asia/Kolkata")
        series = bound.time_series(rows[0].user_id, "1D")
        oracle.assert_time_series(series, rows, series.window, HOUR, series.percentile_error)
    engine.dispose()


def test_a_role_without_a_grant_is_told_so(
    database: Database, rows: list[Transaction], stranger: str
) -> None:
    engine = host_engine(database.url, "psycopg")
    with engine.connect() as connection:
        connection.execute(text(f"SET LOCAL ROLE {stranger}"))
        with pytest.raises(PermissionMissing, match="ledger db grant"):
            Ledger.bound(connection).telemetry.overview(rows[0].user_id, "7D")
    engine.dispose()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_retention_between_the_horizon_and_the_statement_gives_no_wrong_answer(
    kind: str, database: Database, rows: list[Transaction]
) -> None:
    window = Window(
        start=floor(database.now, HOUR) - timedelta(days=6, minutes=-20), end=database.now
    )
    raw_from = floor(database.now - timedelta(days=2), HOUR)
    pending: list[Callable[[], None]] = []

    def meanwhile(sent: Sent) -> None:
        if pending and not sent.is_opening:
            pending.pop()()

    with asking(kind, database.url) as ask, sent_by_reads(meanwhile) as sent:
        exact = ask("overview", rows[0].user_id, window)
        pending.append(lambda: database.forget_raw_before(raw_from))
        answer = ask("overview", rows[0].user_id, window)
    assert [statement.is_opening for statement in sent] == [True, False, False, False]
    assert (exact.is_exact, answer.is_exact) == (True, False)
    assert answer.window.start == floor(window.start, HOUR)
    oracle.assert_overview(answer, rows)


def test_reads_go_to_the_replica_and_writes_to_the_primary(
    database: Database, rows: list[Transaction]
) -> None:
    with Ledger.connect("postgresql://nobody@127.0.0.1:9/none", database.url) as ledger:
        oracle.assert_overview(ledger.telemetry.overview(rows[0].user_id, "7D"), rows)
        with pytest.raises(DatabaseUnavailable):
            ledger.telemetry.insert_transaction(rows[0])


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_dropped_connections_heal_on_the_next_read(
    kind: str, database: Database, rows: list[Transaction]
) -> None:
    with asking(kind, database.url) as ask:
        for _ in range(2):
            oracle.assert_overview(ask("overview", rows[0].user_id, "7D"), rows)
            database.sql(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        oracle.assert_overview(ask("overview", rows[0].user_id, "7D"), rows)


def test_every_dropped_connection_of_the_pool_heals(
    database: Database, rows: list[Transaction]
) -> None:
    at_once = 4
    together = Barrier(at_once)

    def wait(sent: Sent) -> None:
        if not sent.is_opening and not together.broken:
            together.wait(30)

    with Ledger.connect(database.url) as ledger, ThreadPoolExecutor(at_once) as threads:

        def read(_: int) -> Overview:
            return ledger.telemetry.overview(rows[0].user_id, "7D")

        with sent_by_reads(wait):
            list(threads.map(read, range(at_once)))
        database.sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for answer in threads.map(read, range(at_once * 3)):
            oracle.assert_overview(answer, rows)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_schema_that_came_back_is_read_again(
    kind: str, database: Database, rows: list[Transaction]
) -> None:
    with asking(kind, database.url) as ask:
        ask("overview", rows[0].user_id, "7D")
        database.sql("ALTER TABLE ledger.installation RENAME TO elsewhere")
        with pytest.raises(SchemaNotReady):
            ask("overview", rows[0].user_id, "7D")
        database.sql("ALTER TABLE ledger.elsewhere RENAME TO installation")
        oracle.assert_overview(ask("overview", rows[0].user_id, "7D"), rows)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_timeout_of_the_hosts_passes_as_sqlalchemys_error(
    kind: str, database: Database, rows: list[Transaction]
) -> None:
    options = {"options": "-c statement_timeout=300"}
    impatient = make_url(database.url).update_query_dict(options)
    with database.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE ledger.llm_requests")
        with (
            asking(kind, impatient.render_as_string(hide_password=False)) as ask,
            pytest.raises(OperationalError, match="statement timeout"),
        ):
            ask("overview", rows[0].user_id, "7D")


def test_a_database_without_the_schema_says_what_to_run(empty_database_url: str) -> None:
    with (
        Ledger.connect(empty_database_url) as ledger,
        pytest.raises(SchemaNotReady, match="ledger db upgrade"),
    ):
        ledger.telemetry.overview(ALL_USERS, "7D")


def test_the_environment_names_the_database_and_may_not_contradict_it(
    database: Database,
    target: Target,
    rows: list[Transaction],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LEDGER_DATABASE_URL", database.url)
    monkeypatch.setenv("LEDGER_STORAGE", target.storage)
    with Ledger.from_environment() as ledger:
        oracle.assert_overview(ledger.telemetry.overview(rows[0].user_id, "7D"), rows)
    other = next(kind for kind in Percentiles if kind is not target.percentiles)
    monkeypatch.setenv("LEDGER_PERCENTILES", other)
    with Ledger.from_environment() as ledger, pytest.raises(StorageMismatch, match=other):
        ledger.telemetry.overview(rows[0].user_id, "7D")

    async def asynchronously() -> None:
        async with AsyncLedger.from_environment() as ledger:
            with pytest.raises(StorageMismatch, match=other):
                await ledger.telemetry.overview(rows[0].user_id, "7D")

    asyncio.run(asynchronously())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_wrong_arguments_are_named(kind: str, database_url: str) -> None:
    user = someone()
    with asking(kind, database_url) as ask:
        with pytest.raises(InvalidArgument, match="ALL_USERS"):
            ask("overview", None, "7D")
        with pytest.raises(InvalidArgument, match="'me'"):
            ask("overview", "me", "7D")
        with pytest.raises(InvalidArgument, match="15M"):
            ask("overview", user, "2W")
        with pytest.raises(InvalidArgument, match="Nowhere/Land"):
            ask("daily_model_cost", user, "7D", timezone="Nowhere/Land")
        with pytest.raises(InvalidArgument, match="time zone"):
            ask(
                "overview",
                user,
                "7D",
                at=datetime(2026, 1, 1),  # noqa: DTZ001 - naive is the point
            )
        with pytest.raises(InvalidArgument, match="provider"):
            ask("error_rate", user, "7D", provider="open\0ai")
        with pytest.raises(InvalidArgument, match="bucket"):
            ask("time_series", user, "7D", bucket=timedelta(0))
        with pytest.raises(TooManyBuckets, match="wider"):
            ask("time_series", user, "7D", bucket=timedelta(seconds=1))
        assert ask("overview", str(user), "7D").requests == 0


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_buckets_finer_than_what_is_kept_are_refused_with_the_moment(
    kind: str, database: Database
) -> None:
    raw_from = floor(database.now - timedelta(days=2), HOUR)
    database.forget_raw_before(raw_from)
    with asking(kind, database.url) as ask:
        with pytest.raises(RawRowsGone) as refused:
            ask("time_series", someone(), "7D", bucket=timedelta(minutes=30))
        assert refused.value.raw_from == raw_from
        old = raw_from - timedelta(days=1)
        assert len(ask("time_series", someone(), "1H", at=old + timedelta(minutes=1))) == 2


@pytest.fixture
def stranger(database: Database) -> Iterator[str]:
    """A role of the cluster that nothing was granted to."""
    name = f"stranger_{someone().hex}"
    database.sql(f"CREATE ROLE {name}")
    yield name
    database.sql(f"DROP OWNED BY {name}")
    database.sql(f"DROP ROLE {name}")


@pytest.fixture
def service(database: Database, stranger: str) -> str:
    """A role that an application would connect as."""
    engine = host_engine(database.url, "psycopg")
    with engine.begin() as connection:
        access.grant(connection, stranger, "service")
    engine.dispose()
    return stranger
