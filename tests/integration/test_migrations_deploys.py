"""Deploys as they go wrong: two at once, one killed, one behind somebody's open transaction."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from ledger import Ledger
from ledger.ddl import environment, migrate
from ledger.ddl.deploys import is_in_the_way
from tests.alembics import CHECKOUT, config
from tests.alembics import environment as deploy_environment
from tests.audits import ALICE, PROJECT, audited, execution
from tests.catalogues import (
    REQUESTS,
    connect,
    is_waiting_for_a_lock,
    record_requests,
    sql,
    stop_jobs,
    until,
)
from tests.databases import Databases, Target

DEPLOY = """
import sys
from ledger.ddl.migrate import upgrade

print("ready", flush=True)
for url in sys.stdin:
    upgrade(url.strip())
    print("done", flush=True)
"""

READ = "SELECT count(*) FROM ledger.llm_requests WHERE \"timestamp\" > now() - INTERVAL '1 hour'"


def errors(url: str) -> list[str]:
    return [str(found) for found in migrate.check(url) if not found.is_warning]


def upgrade(url: str, target: Target, revision: str = "head") -> None:
    migrate.upgrade(url, revision, storage=target.storage, percentiles=target.percentiles)


@contextmanager
def deploy(target: Target) -> Iterator[subprocess.Popen[str]]:
    """A process that is ready to migrate what it is told to; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", DEPLOY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        env=deploy_environment(target),
    ) as process:
        assert answer(process) == "ready"
        try:
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], url: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{url}\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def empty_url(empty_database_url: str) -> Iterator[str]:
    yield empty_database_url
    stop_jobs(empty_database_url)


@pytest.fixture
def young_url(empty_url: str, target: Target) -> str:
    """A database with requests, before its first index."""
    upgrade(empty_url, target, "0002")
    record_requests(empty_url, target)
    return empty_url


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "LOCK_TIMEOUT", "200ms")
    monkeypatch.setattr(environment, "_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(environment, "LOCK_ATTEMPTS", 200)


@contextmanager
def in_the_background(work: threading.Thread) -> Iterator[None]:
    work.start()
    try:
        yield
    finally:
        work.join(60)
        assert not work.is_alive()


def test_two_deploys_at_once_both_succeed(databases: Databases, target: Target) -> None:
    names = [databases.create(target.server) for _ in range(3)]
    with deploy(target) as one, deploy(target) as other:
        for name in names:
            url = databases.url(target.server, name)
            tell(one, url)
            tell(other, url)
            assert (answer(one), answer(other)) == ("done", "done")
            assert errors(url) == []
    for name in names:
        stop_jobs(databases.url(target.server, name))
        databases.drop(name)


@pytest.mark.parametrize("revision", ["0001", "0006", "0009"])
def test_a_killed_deploy_is_taken_up_by_the_next(
    empty_url: str, target: Target, revision: str
) -> None:
    upgrade(empty_url, target, revision)
    with connect(empty_url, autocommit=False) as holder, deploy(target) as process:
        # What the next revision makes is made, and cannot be recorded.
        holder.execute("LOCK TABLE ledger.alembic_version IN SHARE MODE")
        tell(process, empty_url)
        until(
            lambda: is_waiting_for_a_lock(empty_url, "UPDATE ledger.alembic_version"),
            "a deploy that waits",
        )
        process.kill()
        process.wait()
        holder.rollback()
        upgrade(empty_url, target)

    assert migrate.current(empty_url) == migrate.head()
    assert errors(empty_url) == []


NEWEST_CHUNK = (
    "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks"
    " WHERE hypertable_name = 'llm_requests' ORDER BY range_start DESC LIMIT 1"
)
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"


@pytest.mark.parametrize(
    "table, revision", [("llm_requests", "0002"), ("token_usage_ledger", "0014")]
)
def test_an_index_whose_build_was_killed_is_built_again(
    young_url: str, target: Target, table: str, revision: str
) -> None:
    upgrade(young_url, target, revision)
    build, holding = "CREATE INDEX CONCURRENTLY", READ  # it waits for every older snapshot
    if target.storage == "timescale" and table == "llm_requests":
        # It goes from chunk to chunk, and waits for the writers of each.
        [(chunk,)] = sql(young_url, NEWEST_CHUNK)
        build, holding = "CREATE INDEX", f"LOCK TABLE {chunk} IN ROW EXCLUSIVE MODE"
    with connect(young_url, autocommit=False) as holder, deploy(target) as process:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute(holding.encode())
        tell(process, young_url)
        until(lambda: is_waiting_for_a_lock(young_url, build), "a build that waits")
        process.kill()
        process.wait()
        # The server finds out by itself that nobody wants it any more.
        until(lambda: not is_waiting_for_a_lock(young_url, build), "the end of the build")
        assert sql(young_url, INVALID) > [(0,)]
        assert migrate.current(young_url) == revision
        holder.rollback()

    upgrade(young_url, target)

    assert sql(young_url, INVALID) == [(0,)]
    assert errors(young_url) == []


INSERT_ANOTHER = """
INSERT INTO ledger.llm_requests
SELECT (jsonb_populate_record(r, jsonb_build_object('id',
  overlay(id::text PLACING '9' FROM 20 FOR 1)))).* FROM ledger.llm_requests r
ORDER BY "timestamp" DESC LIMIT 1"""


@pytest.mark.parametrize("holding", [READ, INSERT_ANOTHER], ids=["reader", "writer"])
@pytest.mark.usefixtures("short_timeout")
def test_an_upgrade_waits_for_an_open_transaction(
    young_url: str, target: Target, holding: str
) -> None:
    work = threading.Thread(target=upgrade, args=(young_url, target))
    with connect(young_url, autocommit=False) as holder:
        holder.execute(holding.encode())
        with in_the_background(work):
            # More than the timeout, and then some: it neither fails nor gives up.
            work.join(1.5)
            holder.commit()

    assert migrate.current(young_url) == migrate.head()
    assert errors(young_url) == []


@pytest.mark.storage("postgres")
def test_lock_timeout_does_not_cancel_a_concurrent_build(
    young_url: str, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(environment, "LOCK_ATTEMPTS", 1)
    work = threading.Thread(target=upgrade, args=(young_url, target, "0003"))
    with connect(young_url, autocommit=False) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute(READ.encode())
        with in_the_background(work):
            until(
                lambda: is_waiting_for_a_lock(young_url, "CREATE INDEX CONCURRENTLY"),
                "a build that waits",
            )
            work.join(0.5)
            assert is_waiting_for_a_lock(young_url, "CREATE INDEX CONCURRENTLY")
            holder.commit()

    assert migrate.current(young_url) == "0003"
    assert sql(young_url, INVALID) == [(0,)]


@pytest.mark.usefixtures("short_timeout")
def test_a_deploy_behind_a_reader_stops_other_readers_no_longer_than_its_timeout(
    database_url: str, target: Target
) -> None:
    record_requests(database_url, target)
    work = threading.Thread(target=migrate.downgrade, args=(database_url, "0005"))
    slowest = 0.0
    with connect(database_url, autocommit=False) as holder, connect(database_url) as reader:
        holder.execute("LOCK TABLE ledger.llm_requests IN ACCESS SHARE MODE")
        with in_the_background(work):
            until(lambda: is_waiting_for_a_lock(database_url), "a deploy that waits")
            held_until = time.monotonic() + 2.5
            while time.monotonic() < held_until:
                begun = time.monotonic()
                reader.execute(READ.encode())
                slowest = max(slowest, time.monotonic() - begun)
            assert work.is_alive()
            holder.commit()

    # One that queued until the lock was given would have stopped them for 2.5 s.
    assert slowest < 1.5
    assert migrate.current(database_url) == "0005"
    assert sql(database_url, "SELECT count(*) FROM ledger.llm_requests") == [(REQUESTS,)]


@pytest.mark.parametrize("revision", ["0032", "0033", "0034"])
def test_a_downgrade_of_what_keeps_rows_can_be_done_again(
    database_url: str, target: Target, revision: str
) -> None:
    """As where it was killed after what it takes away was gone, and before that was written."""
    migrate.downgrade(database_url, revision)
    for table in ("projects", "providers", "users"):
        for trigger in ("keeps_rows", "refuses_truncate"):
            sql(database_url, f"DROP TRIGGER IF EXISTS {table}_{trigger} ON ledger.{table}")
    sql(database_url, "DROP FUNCTION IF EXISTS ledger.keep_rows()")
    migrate.downgrade(database_url, "0031")
    upgrade(database_url, target)
    assert errors(database_url) == []


def test_who_is_a_deadlocks_victim_tries_again() -> None:
    told = (
        DBAPIError("", {}, type("Told", (Exception,), {"sqlstate": code})())
        for code in ("40P01", "55P03", "42P01", None)
    )
    assert [is_in_the_way(each) for each in told] == [True, True, False, False]


def test_an_upgrade_beside_those_who_append_runs_is_in_nobodys_way(
    database_url: str, target: Target
) -> None:
    with audited(database_url):
        migrate.downgrade(database_url, "0031")
    done = threading.Event()
    appended: list[int] = []

    def append(writer: int) -> None:
        with Ledger.connect(database_url) as ledger:
            for batch in itertools.count():
                runs = (execution(f"{writer}-{batch}-{place}") for place in range(20))
                appended.append(ledger.audit.record_executions(runs).inserted)
                # Also users and projects, in an order that is the host's.
                ledger.tenancy.upsert_user(tier="pro", id=ALICE)
                ledger.tenancy.upsert_project("a project", id=PROJECT)
                if done.is_set():
                    return

    with ThreadPoolExecutor(3) as writers:
        writing = [writers.submit(append, writer) for writer in range(3)]
        try:
            until(lambda: len(appended) > 3, "runs")
            for revision in ("head", "0031", "head"):
                if revision == "head":
                    upgrade(database_url, target)
                else:
                    migrate.downgrade(database_url, revision)
        finally:
            done.set()
        for writer in writing:
            writer.result()

    assert errors(database_url) == []
    with Ledger.connect(database_url) as ledger:
        assert ledger.audit.verify(PROJECT).rows == sum(appended)


def test_a_pool_of_the_caller_gets_its_sessions_back_as_they_were(
    empty_url: str, target: Target
) -> None:
    from alembic import command  # noqa: PLC0415

    settings = "SELECT current_setting('lock_timeout'), current_setting('search_path')"
    locks = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    engine = create_engine(empty_url, pool_size=2)
    ours = config(empty_url, target)
    ours.attributes["connection"] = engine
    with engine.connect() as connection:
        before = connection.exec_driver_sql(settings).all()

    command.upgrade(ours, "head")

    assert sql(empty_url, locks) == [(0,)]
    with engine.connect() as one, engine.connect() as other:
        for connection in (one, other):
            assert connection.exec_driver_sql(settings).all() == before
    engine.dispose()
    assert errors(empty_url) == []
