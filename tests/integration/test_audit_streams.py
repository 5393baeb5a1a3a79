"""A stream gives each run that matches once, in constant memory, and leaves nothing open behind
it, however it ends."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, Final, Protocol
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from ledger import AsyncLedger, Ledger, Window
from ledger.engine import PLAN_TRANSACTION, driver_of
from ledger.errors import (
    DatabaseUnavailable,
    InvalidArgument,
    PermissionMissing,
    SchemaNotReady,
    StorageMismatch,
)
from ledger.queries.execution_export import rows_after
from ledger.queries.execution_filters import ExecutionFilter
from ledger.records.audit import ExecutionRecord
from ledger.settings import Storage
from tests.audits import ALICE, BOB, OTHER_PROJECT, PROJECT, audited, execution
from tests.bouncer import bouncing, program
from tests.databases import Databases, Target
from tests.ledgers import NOW
from tests.millions import STATUS, peak_kib
from tests.roles import roles_of
from tests.servers import libpq
from tests.writers import KINDS, Kind, sql, superuser

RUNS: Final = 1_500
"""Of which several fetches are needed."""
A_MILLISECOND: Final = timedelta(milliseconds=1)
FIRST: Final = NOW - timedelta(days=1)
STATUSES: Final = (*["completed"] * 5, "failed", "aborted")
SOME: Final = Window(start=FIRST + 100 * A_MILLISECOND, end=FIRST + 200 * A_MILLISECOND)
ALL_TIME: Final = Window(
    start=datetime.min.replace(tzinfo=UTC), end=datetime.max.replace(tzinfo=UTC)
)
EVERYTHING: Final = ExecutionFilter()
NOWHERE: Final = "postgresql://nobody@127.0.0.1:9/none"


def a_run(number: int, **what_matters: Any) -> dict[str, Any]:
    """One of many: five of each millisecond, which are recorded in no order of time."""
    return execution(
        f"run-{number}",
        project_id=OTHER_PROJECT if number % 3 == 0 else PROJECT,
        user_id=BOB if number % 4 == 0 else ALICE,
        agent_id=f"agent-{number % 5 // 2}",
        status=STATUSES[number % 7],
        parent_run_id=f"parent-{number % 11}" if number % 2 else None,
        created_at=FIRST + number * 77 % RUNS // 5 * A_MILLISECOND,
        **what_matters,
    )


NOTED: Final = (
    "id",
    "run_id",
    "project_id",
    "user_id",
    "agent_id",
    "status",
    "parent_run_id",
    "created_at",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A database with runs in it, and what a person would note of each."""

    url: str
    target: Target
    rows: list[dict[str, Any]]

    def oldest_first(self, **values: object) -> list[str]:
        """The run_ids of those with these values; `window` is when they ended."""
        window = values.pop("window", ALL_TIME)
        assert isinstance(window, Window)
        found = [
            row
            for row in self.rows
            if values.items() <= row.items() and window.start <= row["created_at"] < window.end
        ]
        found.sort(key=lambda row: (row["created_at"], row["id"].bytes))
        return [row["run_id"] for row in found]


@pytest.fixture(scope="module")
def stored(databases: Databases, target: Target) -> Iterator[Stored]:
    """Shared by tests that leave in it what they find."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    with audited(url, *map(a_run, range(RUNS))):
        rows = sql(url, f"SELECT {', '.join(NOTED)} FROM ledger.execution_ledger")
    yield Stored(url=url, target=target, rows=[dict(zip(NOTED, row, strict=True)) for row in rows])
    databases.drop(name)


# --- one face for a stream that is called and one that is awaited ---


class Stream(Protocol):
    """What a generator is."""

    def __iter__(self) -> Stream: ...
    def __next__(self) -> ExecutionRecord: ...
    def close(self) -> None: ...


class Awaited:
    """An asynchronous generator, each step run to its end."""

    def __init__(self, stream: Any, runner: asyncio.Runner) -> None:
        self._stream, self._runner = stream, runner

    def __iter__(self) -> Awaited:
        return self

    def __next__(self) -> ExecutionRecord:
        found = self._runner.run(_first_of(self._stream))
        if found is None:
            raise StopIteration
        return found

    def close(self) -> None:
        self._runner.run(self._stream.aclose())


@dataclass(frozen=True, slots=True)
class Host:
    """Streams of a ledger, on an engine of its own or bound to a connection of a host's."""

    stream: Callable[..., Stream]
    audit: Any
    execute: Callable[[str], Any]
    settle: Callable[[], object]
    """Let a loop come round to what it is to do."""
    source: Any = None
    do: Callable[[str], Any] = str
    """Call a method of the host's connection or session."""


async def _settled() -> None:
    await asyncio.sleep(0)
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})


class _Each:
    """Each method of an asynchronous object, run to its end."""

    def __init__(self, target: object, runner: asyncio.Runner) -> None:
        self._target, self._runner = target, runner

    def __getattr__(self, name: str) -> Any:
        def method(*args: Any, **kwargs: Any) -> Any:
            return self._runner.run(getattr(self._target, name)(*args, **kwargs))

        return method

    def call(self, name: str) -> Any:
        return getattr(self, name)()


def _no_connection(_: str) -> None:
    raise AssertionError("the ledger has connections of its own")


@contextmanager
def streaming(url: str, kind: Kind, **options: Any) -> Iterator[Host]:
    """Streams on an engine of the ledger's own."""
    if kind == "called":
        with Ledger.connect(url, **options) as ledger:
            yield Host(ledger.audit.stream_executions, ledger.audit, _no_connection, lambda: None)
    else:
        with asyncio.Runner() as runner:
            awaited = AsyncLedger.connect(url, **options)
            yield Host(
                lambda *asked: Awaited(awaited.audit.stream_executions(*asked), runner),
                _Each(awaited.audit, runner),
                _no_connection,
                lambda: runner.run(_settled()),
            )
            runner.run(awaited.close())


DRIVERS: Final = ("psycopg", "psycopg2", "asyncpg", "psycopg_async")
drivers = pytest.mark.parametrize("driver", DRIVERS)


@contextmanager
def bound(url: str, driver: str, *, as_session: bool = False, **options: Any) -> Iterator[Host]:
    """Streams in a transaction of a host's."""
    its_url = make_url(url).set(drivername=f"postgresql+{driver}")
    if driver in {"psycopg", "psycopg2"}:
        own = create_engine(its_url, poolclass=NullPool, **options)
        with Session(own) if as_session else own.connect() as source:
            audit = Ledger.bound(source).audit
            yield Host(
                audit.stream_executions,
                audit,
                lambda each: source.execute(text(each)),
                gc.collect,
                source,
                lambda name: getattr(source, name)(),
            )
        return
    if driver == "asyncpg":
        its_url = its_url.set(port=None, query={"host": its_url.query["host"]})
    with asyncio.Runner() as runner:
        awaited = create_async_engine(its_url, poolclass=NullPool, **options)
        host: Any = AsyncSession(awaited) if as_session else awaited.connect()
        runner.run(host.__aenter__())
        bound_audit = AsyncLedger.bound(host).audit
        yield Host(
            lambda *asked: Awaited(bound_audit.stream_executions(*asked), runner),
            _Each(bound_audit, runner),
            lambda each: runner.run(host.execute(text(each))),
            lambda: runner.run(_settled()),
            host,
            _Each(host, runner).call,
        )
        runner.run(host.close())


def ids(stream: Any) -> list[str]:
    return [each.run_id for each in stream]


# --- which runs, and in which order ---

FILTERS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"status": "completed"},
    {"status": "failed"},
    {"status": "aborted", "window": SOME},
    {"window": SOME},
    {"window": ALL_TIME},
    {"window": SOME, "status": "completed"},
    {"window": Window(start=SOME.start, end=SOME.start)},
    {"project_id": PROJECT},
    {"project_id": OTHER_PROJECT, "window": SOME},
    {"user_id": BOB},
    {"user_id": BOB, "status": "failed"},
    {"agent_id": "agent-1"},
    {"agent_id": "agent-1", "project_id": PROJECT, "user_id": ALICE, "status": "completed"},
    {"agent_id": "agent-'"},
    {"parent_run_id": "parent-3"},
    {"parent_run_id": "parent-3", "window": SOME},
    {"project_id": ALICE},
)


@pytest.mark.parametrize("values", FILTERS, ids=lambda values: "-".join(values) or "everything")
def test_a_stream_is_what_matches_oldest_first(
    stored: Stored, kind: Kind, values: dict[str, Any]
) -> None:
    with streaming(stored.url, kind) as host:
        expected = stored.oldest_first(**values)
        assert ids(host.stream(ExecutionFilter(**values))) == expected


def test_without_a_filter_a_stream_is_everything(stored: Stored, kind: Kind) -> None:
    with streaming(stored.url, kind) as host:
        found = list(host.stream())
    assert ids(found) == stored.oldest_first()
    assert [(each.created_at, each.id.bytes) for each in found] == sorted(
        (each.created_at, each.id.bytes) for each in found
    )


def test_ids_may_be_text(stored: Stored, kind: Kind) -> None:
    asked = ExecutionFilter(project_id=str(PROJECT), user_id=ALICE.hex)
    assert (asked.project_id, asked.user_id) == (PROJECT, ALICE)
    with streaming(stored.url, kind) as host:
        expected = stored.oldest_first(project_id=PROJECT, user_id=ALICE)
        assert ids(host.stream(asked)) == expected


def test_a_run_is_streamed_as_it_is_given_by_its_id(database_url: str, kind: Kind) -> None:
    exact = Decimal("0.1000000000000000000000000000000000001")
    with audited(database_url, execution(input={"exact": exact}, output=None)) as ledger:
        expected = ledger.audit.execution("run")
    with streaming(database_url, kind) as host:
        assert list(host.stream()) == [expected]
    assert expected is not None
    assert (expected.input["exact"], expected.output) == (exact, None)


def test_what_is_recorded_after_a_stream_began_is_not_in_it(database_url: str, kind: Kind) -> None:
    with (
        audited(database_url, *map(a_run, range(200))) as ledger,
        streaming(database_url, kind) as host,
    ):
        stream = host.stream()
        first = next(stream)
        ledger.audit.record_execution(execution("later", created_at=NOW))
        rest = ids(stream)
        assert len({first.run_id, *rest}) == 200
        assert "later" not in rest
        assert ids(host.stream())[-1] == "later"


# --- arguments ---

WRONG: Final[tuple[tuple[dict[str, Any], str], ...]] = (
    ({"project_id": "mine"}, "project_id 'mine'"),
    ({"user_id": 7}, "user_id 7"),
    ({"agent_id": 7}, "agent_id 7"),
    ({"agent_id": "a\0"}, "agent_id 'a"),
    ({"parent_run_id": "\ud800"}, "parent_run_id"),
    ({"status": "success"}, "status 'success' is none of completed, failed, aborted"),
    ({"window": "7D"}, "'7D' is not a Window"),
)


@pytest.mark.parametrize("named, wrong", WRONG)
def test_a_wrong_filter_is_named(named: dict[str, Any], wrong: str) -> None:
    with pytest.raises(InvalidArgument, match=wrong):
        ExecutionFilter(**named)


@pytest.mark.parametrize("asked", [None, "failed", {"status": "failed"}, PROJECT])
async def test_what_is_no_filter_is_refused_before_anything_is_iterated(asked: Any) -> None:
    with Ledger.connect(NOWHERE) as ledger, pytest.raises(InvalidArgument, match="ExecutionFilter"):
        ledger.audit.stream_executions(asked)
    async with AsyncLedger.connect(NOWHERE) as awaited:
        with pytest.raises(InvalidArgument, match="ExecutionFilter"):
            awaited.audit.stream_executions(asked)


@pytest.mark.parametrize(
    "wanted, characters, expected",
    [
        (32, 10, 64),
        (64, 1_000, 128),
        (512, 1_000, 512),
        (512, 10_000, 256),
        (512, 1_000_000, 4),
        (4, 1_000, 8),
        (1, 1 << 22, 1),
        (32, 1 << 24, 1),
    ],
)
def test_as_many_rows_are_fetched_as_their_size_allows(
    wanted: int, characters: int, expected: int
) -> None:
    rows = [(UUID(int=7), "x" * characters, None, 7)] * min(wanted, 4)
    assert rows_after(wanted, rows) == expected


# --- left early ---


OPEN: Final = """SELECT state, query FROM pg_stat_activity WHERE datname = current_database()
  AND state <> 'idle' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""


def _closed(host: Host) -> None:
    stream = host.stream()
    next(stream)
    stream.close()
    assert list(stream) == []


def _closed_by_its_context(host: Host) -> None:
    with closing(host.stream()) as stream:
        ids(islice(stream, 100))


def _dropped(host: Host) -> None:
    stream = host.stream()
    next(stream)
    del stream


def _broken_off(host: Host) -> None:
    for each in host.stream(ExecutionFilter(project_id=PROJECT)):
        assert each.project_id == PROJECT
        break


def _read_until(host: Host, error: type[BaseException]) -> None:
    for each in host.stream():
        raise error(each.run_id)


def _failed(host: Host) -> None:
    with pytest.raises(LookupError):
        _read_until(host, LookupError)


def _interrupted(host: Host) -> None:
    with pytest.raises(KeyboardInterrupt):
        _read_until(host, KeyboardInterrupt)


def _never_begun(host: Host) -> None:
    host.stream()


WAYS: Final = (
    _closed,
    _closed_by_its_context,
    _dropped,
    _broken_off,
    _failed,
    _interrupted,
    _never_begun,
)
left_early = pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__.strip("_"))


@left_early
def test_a_stream_that_is_left_leaves_no_transaction_and_no_connection(
    stored: Stored, kind: Kind, leave: Callable[[Host], None]
) -> None:
    with streaming(stored.url, kind) as host:
        for _ in range(17):  # more than the pool would lend, were one lost each time
            leave(host)
            host.settle()
        assert sql(stored.url, OPEN) == []
        assert ids(host.stream()) == stored.oldest_first()
    assert sql(stored.url, OPEN) == []


def test_a_loop_that_ends_closes_the_streams_that_are_left(stored: Stored) -> None:
    told: list[object] = []
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: told.append(context))
        ledger = AsyncLedger.connect(stored.url)
        streams = [ledger.audit.stream_executions() for _ in range(3)]
        for each in streams:
            runner.run(_first_of(each))
        assert len(sql(stored.url, OPEN)) == len(streams)
        loop.run_until_complete(loop.shutdown_asyncgens())
        assert sql(stored.url, OPEN) == []
        runner.run(ledger.close())
    assert told == []


async def _first_of(stream: Any) -> ExecutionRecord | None:
    return await anext(stream, None)


async def test_a_cancelled_task_leaves_nothing_open(stored: Stored) -> None:
    async with AsyncLedger.connect(stored.url) as ledger:
        for number in (0, 1, 40, 700):

            async def read(number: int = number) -> None:
                seen = 0
                async for _ in ledger.audit.stream_executions():
                    if seen == number:
                        reading = asyncio.current_task()
                        assert reading is not None
                        reading.cancel()
                    seen += 1

            with pytest.raises(asyncio.CancelledError):
                await asyncio.create_task(read())
            await _settled()
        assert sql(stored.url, OPEN) == []
        assert len([each async for each in ledger.audit.stream_executions()]) == RUNS


# --- failures ---


def terminate(url: str) -> None:
    sql(
        url,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'",
    )


def test_a_stream_that_is_cut_off_says_so_and_the_next_one_works(
    stored: Stored, kind: Kind
) -> None:
    with streaming(stored.url, kind) as host:
        for _ in range(3):
            stream = host.stream()
            next(stream)
            terminate(stored.url)
            with pytest.raises(DatabaseUnavailable):
                ids(stream)
            assert list(stream) == []
            assert ids(host.stream()) == stored.oldest_first()
            terminate(stored.url)  # now while nobody streams


def test_a_stream_that_is_left_on_a_lost_connection_ends_in_silence(
    stored: Stored, kind: Kind
) -> None:
    with streaming(stored.url, kind) as host:
        for _ in range(17):  # more than the pool would lend, were one lost each time
            stream = host.stream()
            next(stream)
            terminate(stored.url)
            stream.close()
        assert ids(host.stream()) == stored.oldest_first()


def test_a_database_that_is_not_there_is_told_when_the_first_run_is_asked_for(kind: Kind) -> None:
    with streaming(NOWHERE, kind) as host:
        stream = host.stream()
        with pytest.raises(DatabaseUnavailable):
            next(stream)


def test_a_database_without_the_schema_says_what_to_run(
    empty_database_url: str, kind: Kind
) -> None:
    with (
        streaming(empty_database_url, kind) as host,
        pytest.raises(SchemaNotReady, match="ledger db upgrade"),
    ):
        next(host.stream())


def test_settings_that_contradict_the_database_are_told(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(each for each in Storage if each is not stored.target.storage)
    monkeypatch.setenv("LEDGER_DATABASE_URL", stored.url)
    monkeypatch.setenv("LEDGER_STORAGE", other)
    with Ledger.from_environment() as ledger, pytest.raises(StorageMismatch, match=other):
        next(ledger.audit.stream_executions())


def test_a_timeout_of_the_hosts_passes_as_sqlalchemys_error(stored: Stored, kind: Kind) -> None:
    url = make_url(stored.url).update_query_dict({"options": "-c statement_timeout=50"})
    with (
        superuser(stored.url) as connection,
        connection.transaction(),
        streaming(url.render_as_string(hide_password=False), kind) as host,
    ):
        connection.execute("LOCK TABLE ledger.execution_ledger")
        with pytest.raises(OperationalError, match="statement timeout"):
            next(host.stream())


# --- in a transaction of the caller's ---

CURSORS: Final = "SELECT count(*) FROM pg_cursors WHERE name LIKE 'ledger%'"
SAVED: Final = "INSERT INTO of_the_host VALUES (1)"


@drivers
@pytest.mark.parametrize("as_session", [False, True], ids=["connection", "session"])
def test_a_bound_stream_is_the_same_by_any_driver(
    stored: Stored, driver: str, *, as_session: bool
) -> None:
    with Ledger.connect(stored.url) as ledger:
        expected = list(ledger.audit.stream_executions(ExecutionFilter(window=SOME)))
    with bound(stored.url, driver, as_session=as_session) as host:
        assert list(host.stream(ExecutionFilter(window=SOME))) == expected
        for values in FILTERS:
            assert ids(host.stream(ExecutionFilter(**values))) == stored.oldest_first(**values)
        assert host.execute(CURSORS).scalar() == 0


@drivers
def test_a_bound_stream_sees_its_transaction_and_commits_nothing(
    stored: Stored, driver: str
) -> None:
    with bound(stored.url, driver) as host:
        host.audit.record_execution(execution("uncommitted", created_at=NOW))
        assert ids(host.stream()) == [*stored.oldest_first(), "uncommitted"]
        with closing(host.stream()) as stream:
            next(stream)
    assert "uncommitted" not in {
        run_id for (run_id,) in sql(stored.url, "SELECT run_id FROM ledger.execution_ledger")
    }


@drivers
def test_the_transaction_may_be_used_while_a_stream_is_under_way(
    stored: Stored, driver: str
) -> None:
    with bound(stored.url, driver) as host:
        host.execute("CREATE TEMPORARY TABLE of_the_host (n int)")
        found = []
        for each in host.stream(ExecutionFilter(project_id=PROJECT)):
            found.append(each.run_id)
            if len(found) % 100 == 0:
                host.execute(SAVED)
                host.audit.record_execution(execution(f"by {each.run_id}", created_at=NOW))
                host.execute(f"SAVEPOINT mine{len(found)}")
            if len(found) % 300 == 0:
                host.execute(f"ROLLBACK TO SAVEPOINT mine{len(found)}")
        assert found == stored.oldest_first(project_id=PROJECT)
        assert host.execute("SELECT count(*) FROM of_the_host").scalar() == len(found) // 100


@drivers
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "AUTOCOMMIT"])
def test_streams_of_one_connection_may_take_turns_and_end_in_any_order(
    stored: Stored, driver: str, isolation: str
) -> None:
    with bound(stored.url, driver, isolation_level=isolation) as host:
        asked = [ExecutionFilter(), ExecutionFilter(project_id=PROJECT), ExecutionFilter()]
        streams = [host.stream(each) for each in asked]
        found = [[next(each).run_id for each in streams] for _ in range(500)]
        assert host.execute(CURSORS).scalar() == 3
        streams[0].close()
        assert host.execute(CURSORS).scalar() == 2
        rest = ids(streams[1])
        assert [of_one for _, of_one, _ in found] + rest == stored.oldest_first(project_id=PROJECT)
        streams[2].close()
        assert host.execute(CURSORS).scalar() == 0


@drivers
@left_early
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "AUTOCOMMIT"])
def test_a_bound_stream_that_is_left_closes_its_cursor_and_nothing_else(
    stored: Stored, driver: str, leave: Callable[[Host], None], isolation: str
) -> None:
    with bound(stored.url, driver, isolation_level=isolation) as host:
        host.execute("CREATE TEMPORARY TABLE of_the_host (n int)")
        host.execute(SAVED)
        leave(host)
        gc.collect()
        host.settle()
        assert host.execute(CURSORS).scalar() == 0
        assert host.execute("SELECT count(*) FROM of_the_host").scalar() == 1
        assert ids(host.stream()) == stored.oldest_first()


def test_a_bound_stream_that_is_collected_amid_a_statement_does_not_wait_for_it(
    stored: Stored,
) -> None:
    own = create_engine(stored.url, poolclass=NullPool)
    with own.connect() as connection:
        stream = Ledger.bound(connection).audit.stream_executions()
        next(stream)
        with driver_of(connection).lock:  # as while psycopg executes one
            closer = threading.Thread(target=stream.close, daemon=True)
            closer.start()
            closer.join(30)
            assert not closer.is_alive()
        connection.rollback()
        assert connection.execute(text(CURSORS)).scalar() == 0


@drivers
def test_a_fetch_that_fails_leaves_the_callers_transaction_usable(
    stored: Stored, driver: str
) -> None:
    with bound(stored.url, driver) as host:
        host.execute("CREATE TEMPORARY TABLE of_the_host (n int)")
        host.execute("SAVEPOINT mine")
        stream = host.stream()
        next(stream)
        # Which takes the cursor with it.
        host.execute("ROLLBACK TO SAVEPOINT mine")
        with pytest.raises(DBAPIError, match="does not exist"):
            ids(stream)
        left = host.stream()
        next(left)
        host.execute("ROLLBACK TO SAVEPOINT mine")
        left.close()
        assert host.execute("SELECT count(*) FROM of_the_host").scalar() == 0
        assert ids(host.stream()) == stored.oldest_first()


@drivers
def test_a_stream_that_cannot_begin_leaves_the_callers_transaction_usable(
    stored: Stored, driver: str
) -> None:
    with bound(stored.url, driver) as host, superuser(stored.url) as other:
        host.execute("CREATE TEMPORARY TABLE of_the_host (n int)")
        host.execute("SET LOCAL statement_timeout = 50")
        with other.transaction():
            other.execute("LOCK TABLE ledger.execution_ledger")
            with pytest.raises(DBAPIError, match="statement timeout"):
                next(host.stream())
        assert host.execute("SELECT count(*) FROM of_the_host").scalar() == 0
        assert len(ids(host.stream())) == RUNS


@drivers
@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
@pytest.mark.parametrize("as_session", [False, True], ids=["connection", "session"])
def test_a_stream_does_not_outlive_its_transaction_nor_begin_another(
    stored: Stored, driver: str, end: str, *, as_session: bool
) -> None:
    with bound(stored.url, driver, as_session=as_session) as host:
        one, other = host.stream(), host.stream()
        next(one)
        next(other)
        host.do(end)
        with pytest.raises(InvalidArgument, match="has ended"):
            ids(one)
        other.close()
        assert not host.source.in_transaction()


@drivers
def test_a_bound_stream_that_is_cut_off_says_so(stored: Stored, driver: str) -> None:
    with bound(stored.url, driver) as host:
        stream = host.stream()
        next(stream)
        terminate(stored.url)
        with pytest.raises(DatabaseUnavailable):
            ids(stream)
        host.do("rollback")


@drivers
def test_a_bound_stream_that_is_left_on_a_lost_connection_ends_in_silence(
    stored: Stored, driver: str
) -> None:
    with bound(stored.url, driver) as host:
        stream = host.stream()
        next(stream)
        terminate(stored.url)
        stream.close()


# --- servers and roles ---


def test_streams_come_from_the_replica(stored: Stored) -> None:
    with Ledger.connect(NOWHERE, stored.url) as ledger:
        assert ids(ledger.audit.stream_executions()) == stored.oldest_first()


def test_behind_pgbouncer_another_client_finds_the_session_as_it_was(
    stored: Stored, kind: Kind
) -> None:
    pgbouncer = program()
    if pgbouncer is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    settings = "SELECT name, setting FROM pg_settings WHERE name <> 'application_name'"
    with bouncing(pgbouncer, stored.url) as url, sent_by_sqlalchemy() as sent:
        client = psycopg.connect(libpq(url), autocommit=True, prepare_threshold=None)
        before = client.execute(settings).fetchall()
        through = url.update_query_dict({"pgbouncer": "true"})
        with streaming(through.render_as_string(hide_password=False), kind) as host:
            assert ids(host.stream()) == stored.oldest_first()
            for leave in WAYS:
                leave(host)
                gc.collect()
                host.settle()
                assert client.execute(settings).fetchall() == before
        assert client.execute("SELECT name FROM pg_cursors").fetchall() == []
        client.close()
        assert sent[0] == PLAN_TRANSACTION.decode()


@contextmanager
def sent_by_sqlalchemy() -> Iterator[list[str]]:
    """The statements that go through SQLAlchemy, on any engine."""
    sent: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    "granted, of",
    [
        ("auditor", {}),
        ("service", {}),
        ("reader", {"user_id": ALICE}),
        ("auditor of projects", {"project_id": OTHER_PROJECT}),
    ],
)
def test_a_role_is_streamed_what_its_scopes_say(
    stored: Stored, kind: Kind, granted: str, of: dict[str, Any]
) -> None:
    with roles_of(stored.url) as roles:
        role = roles.granted(
            granted.partition(" ")[0],
            [ALICE] if granted == "reader" else [],
            projects=[OTHER_PROJECT] if granted == "auditor of projects" else [],
        )
        with streaming(role.url, kind) as host:
            assert ids(host.stream()) == stored.oldest_first(**of)
            failed = stored.oldest_first(status="failed", **of)
            assert ids(host.stream(ExecutionFilter(status="failed"))) == failed


def test_a_writer_may_not_stream(stored: Stored, kind: Kind) -> None:
    with (
        roles_of(stored.url) as roles,
        streaming(roles.granted("writer").url, kind) as host,
        pytest.raises(PermissionMissing),
    ):
        next(host.stream())


# --- how much it takes ---


@pytest.mark.storage("postgres")  # what is measured is the client
@pytest.mark.skipif(not STATUS.exists(), reason="the peak of memory is read from Linux's /proc")
def test_memory_does_not_grow_with_rows(database_url: str) -> None:
    few, many = 1_500, 20_000
    with audited(database_url) as ledger:
        runs = (
            {**execution(f"run-{number}"), "input": {"prompt": "x" * 2_000}}
            for number in range(few + many)
        )
        ledger.audit.record_executions({**run, "agent_id": "few"} for run in islice(runs, few))
        ledger.audit.record_executions(runs)
    for kind in KINDS:
        streamed = subprocess.run(
            [sys.executable, "-m", "tests.integration.test_audit_streams", database_url, kind],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        count, grown_kib = map(int, streamed.stdout.split())
        assert count == few + many
        assert grown_kib < 4 * 1024, kind


@pytest.mark.storage("postgres")
@pytest.mark.skipif(not STATUS.exists(), reason="the peak of memory is read from Linux's /proc")
def test_great_payloads_are_fetched_a_few_at_a_time(database_url: str) -> None:
    with audited(database_url) as ledger:
        for number in range(300):
            few = {"agent_id": "few"} if number < 50 else {}
            great = {"input": {"text": f"{number:07}" * 100_000}}
            ledger.audit.record_execution(execution(f"run-{number}", **few, **great))
    for kind in KINDS:
        streamed = subprocess.run(
            [sys.executable, "-m", "tests.integration.test_audit_streams", database_url, kind],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        count, grown_kib = map(int, streamed.stdout.split())
        assert count == 300
        assert grown_kib < 16 * 1024, kind


def _stream_in_this_process(url: str, kind: Kind) -> None:
    """Says how many runs there were, and how far memory grew beyond that of few."""
    with streaming(url, kind) as host:
        ids(host.stream(ExecutionFilter(agent_id="few")))
        before = peak_kib()
        count = sum(1 for _ in host.stream())
    sys.stdout.write(f"{count} {peak_kib() - before}\n")


if __name__ == "__main__":
    _stream_in_this_process(*sys.argv[1:])  # type: ignore[arg-type]
