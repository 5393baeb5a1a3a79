"""What a write that fails leaves behind, says, and loses: nothing of what it counted."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import ProgrammingError

from ledger.errors import (
    ConflictingRecord,
    DatabaseUnavailable,
    DiskFull,
    InvalidRecord,
    LedgerError,
    SchemaNotReady,
)
from ledger.records.report import WriteReport
from ledger.repositories.telemetry import Telemetry
from ledger.write.conflicts import VanishedRecord
from tests.audits import audited, execution
from tests.builders import fields, transaction
from tests.millions import RECORDS, STATUS, written
from tests.writers import KINDS, Kind, Writer, count, sql, superuser, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ledger.records.transaction import Transaction
    from tests.databases import Databases, Migrate, Target


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def writer(database_url: str, kind: Kind) -> Iterator[Writer]:
    with writing(database_url, kind) as writer:
        yield writer


def spread(number: int) -> list[Transaction]:
    """Keyed records of one day, none before another's key."""
    noon = datetime.now(UTC) - timedelta(days=1)
    return [transaction(timestamp=noon, request_id=f"r-{each}") for each in range(number)]


def report_of(error: pytest.ExceptionInfo[LedgerError]) -> WriteReport:
    report = error.value.__dict__["report"]
    assert isinstance(report, WriteReport)
    return report


def on_insert(url: str, body: str) -> None:
    """Have the server do this before each row of the model `trap`."""
    with superuser(url) as connection:
        connection.execute(
            "CREATE FUNCTION public.spring() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {body} RETURN NEW; END $$".encode()
        )
        connection.execute(
            "CREATE TRIGGER spring BEFORE INSERT ON ledger.llm_requests FOR EACH ROW"
            " WHEN (NEW.model = 'trap') EXECUTE FUNCTION public.spring()"
        )


def test_a_connection_lost_inside_a_copy_says_what_was_committed(
    writer: Writer, database_url: str
) -> None:
    sent = spread(30)
    trapped = [*sent[:25], sent[25].model_copy(update={"model": "trap"}), *sent[26:]]
    on_insert(database_url, "PERFORM pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(DatabaseUnavailable, match=r"Before that, 20 records .* committed") as error:
        writer.insert_transactions(trapped, batch_size=10)
    assert report_of(error) == WriteReport(inserted=20)
    assert count(database_url) == 20
    # Sending everything again is safe, on a new connection of the same pool.
    assert writer.insert_transactions(sent) == WriteReport(inserted=10, duplicates=20)


def test_a_full_disk_says_what_was_committed(writer: Writer, database_url: str) -> None:
    sent = [transaction() for _ in range(20)]
    on_insert(database_url, "RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'no space left';")
    with pytest.raises(DiskFull, match="no space left") as error:
        writer.insert_transactions([*sent, fields(model="trap")], batch_size=10)
    assert report_of(error) == WriteReport(inserted=20)
    with pytest.raises(DiskFull):
        writer.insert_transaction(fields(model="trap"))
    assert count(database_url) == 20


def test_one_transaction_on_a_lost_connection_is_not_stored(
    writer: Writer, database_url: str
) -> None:
    on_insert(database_url, "PERFORM pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(DatabaseUnavailable):
        writer.insert_transaction(fields(model="trap"))
    assert count(database_url) == 0
    writer.insert_transaction(fields())
    assert count(database_url) == 1


def test_a_database_without_a_ledger_is_not_ready(empty_database_url: str, kind: Kind) -> None:
    with writing(empty_database_url, kind) as writer:
        with pytest.raises(SchemaNotReady):
            writer.insert_transaction(fields())
        with pytest.raises(SchemaNotReady):
            writer.insert_transactions([fields()])


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE ledger.llm_requests RENAME COLUMN agent_id TO agent",
        "ALTER FUNCTION ledger.raw_from() RENAME TO kept_from",
    ],
)
def test_a_ledger_of_another_version_is_not_ready(
    writer: Writer, database_url: str, change: str
) -> None:
    sql(database_url, change)
    with pytest.raises(SchemaNotReady, match=r"ledger db upgrade(?s:.*)(agent_id|raw_from)"):
        writer.insert_transaction(fields())
    with pytest.raises(SchemaNotReady, match=r"ledger db upgrade(?s:.*)(agent_id|raw_from)"):
        writer.insert_transactions([fields()])


@pytest.mark.parametrize(
    "missing", ["PERFORM nothing_like_it();", "PERFORM * FROM nothing_like_it;"]
)
def test_what_a_hosts_own_trigger_lacks_is_not_told_as_a_missing_ledger(
    writer: Writer, database_url: str, missing: str
) -> None:
    on_insert(database_url, missing)
    for write in (
        lambda: writer.insert_transaction(fields(model="trap")),
        lambda: writer.insert_transactions([fields(model="trap")]),
    ):
        with pytest.raises((ProgrammingError, psycopg.ProgrammingError), match="nothing_like_it"):
            write()


def test_what_the_caller_raises_while_it_is_read_comes_out_with_a_note(
    writer: Writer, database_url: str
) -> None:
    def failing() -> Iterator[Transaction]:
        yield from spread(5)
        raise LookupError

    with pytest.raises(LookupError) as error:
        writer.insert_transactions(failing(), batch_size=2)
    assert error.value.__notes__[0].startswith("Before that, 4 records of this call were committed")
    assert count(database_url) == 4


@pytest.mark.storage("postgres")
def test_text_that_the_databases_encoding_lacks_is_refused_row_by_row(
    target: Target, databases: Databases, migrate: Migrate, kind: Kind
) -> None:
    name = f"ledger_test_latin_{uuid4().hex}"
    target.server.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    url = databases.url(target.server, name)
    migrate(url, storage=target.storage, percentiles=target.percentiles)
    with writing(url, kind) as writer:
        sent = [fields(model="é"), fields(model="語"), fields(attributes={"a": "語"}), fields()]
        report = writer.insert_transactions(sent)
        assert (report.inserted, [one.index for one in report.rejected]) == (2, [1, 2])
        with pytest.raises(InvalidRecord, match="the database's encoding lacks a character"):
            writer.insert_transaction(sent[1])
    with audited(url, kind=kind) as ledger:
        runs = [
            execution("first", intent="é"),
            execution("second", intent="語"),
            execution("third", output={"a": "語"}),
            execution("last"),
        ]
        report = ledger.audit.record_executions(runs)
        assert (report.inserted, [one.index for one in report.rejected]) == (2, [1, 2])
        with pytest.raises(InvalidRecord, match="the database's encoding lacks a character"):
            ledger.audit.record_execution(runs[1])
    target.server.execute(f"DROP DATABASE {name} WITH (FORCE)")


# --- partitions ---


@pytest.mark.storage("postgres")
@pytest.mark.parametrize("write", ["one", "many"])
def test_a_partition_that_went_away_is_made_again(
    writer: Writer, database_url: str, write: str
) -> None:
    first, second = spread(2)
    writer.insert_transaction(first)
    day = first.timestamp.strftime("%Y%m%d")
    sql(database_url, f"DROP TABLE ledger.llm_requests_p{day}")
    if write == "one":
        writer.insert_transaction(second)
    else:
        assert writer.insert_transactions([second]) == WriteReport(inserted=1)
    assert count(database_url) == 1


@pytest.mark.storage("postgres")
def test_rows_of_a_day_that_cannot_be_made_are_too_old(writer: Writer, database_url: str) -> None:
    gone = spread(3)
    sql(
        database_url,
        "CREATE OR REPLACE FUNCTION ledger.ensure_days(days date[]) RETURNS integer"
        " LANGUAGE sql AS 'SELECT 0'",
    )
    sql(
        database_url,
        "CREATE TABLE ledger.today PARTITION OF ledger.llm_requests"
        " FOR VALUES FROM (now() - interval '1 hour') TO (now() + interval '1 hour')",
    )
    report = writer.insert_transactions([*gone, transaction()])
    assert (report.inserted, [one.index for one in report.rejected]) == (1, [0, 1, 2])
    assert all(one.reason.endswith("the raw rows of that day are gone") for one in report.rejected)
    with pytest.raises(InvalidRecord):
        writer.insert_transaction(gone[0])


@pytest.mark.storage("postgres")
def test_a_day_that_the_database_refuses_to_make_is_asked_for_twice_and_then_told(
    writer: Writer, database_url: str
) -> None:
    sql(
        database_url,
        "CREATE OR REPLACE FUNCTION ledger.ensure_days(days date[]) RETURNS integer"
        " LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'LG005'; END $$",
    )
    with pytest.raises(Exception, match="LG005"):
        writer.insert_transactions(spread(1))


# --- several at once ---


def at_once(*works: Callable[[], object]) -> list[object]:
    """The results of works that start together."""
    barrier = Barrier(len(works))

    def start(work: Callable[[], object]) -> object:
        barrier.wait(timeout=30)
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return [begun.result(timeout=120) for begun in [threads.submit(start, w) for w in works]]


def test_two_writers_of_the_same_keys_in_opposite_order_neither_deadlock_nor_double(
    database_url: str,
) -> None:
    for attempt in range(5):
        noon = datetime.now(UTC) - timedelta(days=attempt)
        sent = [transaction(timestamp=noon, request_id=f"r-{each}") for each in range(400)]
        with writing(database_url) as one, writing(database_url) as other:
            reports = at_once(
                lambda one=one, sent=sent: one.insert_transactions(sent, batch_size=200),  # type: ignore[misc]
                lambda other=other, sent=sent: other.insert_transactions(  # type: ignore[misc]
                    sent[::-1], batch_size=200
                ),
            )
        total = WriteReport()
        for report in reports:
            assert isinstance(report, WriteReport)
            total += report
        assert total == WriteReport(inserted=400, duplicates=400)
        assert count(database_url) == 400 * (attempt + 1)


def test_one_record_sent_by_many_at_once_is_stored_once_and_all_succeed(
    database_url: str,
) -> None:
    with writing(database_url) as writer:
        for number in range(10):
            sent = transaction(timestamp=datetime.now(UTC), request_id=f"r-{number}")
            ids = at_once(*repeat(lambda sent=sent: writer.insert_transaction(sent), 4))
            assert set(ids) == {sent.id}
    assert count(database_url) == 10


def test_of_two_contents_sent_at_once_one_is_stored_and_the_other_is_a_conflict(
    database_url: str,
) -> None:
    with writing(database_url) as writer:
        for number in range(10):
            one = transaction(timestamp=datetime.now(UTC), request_id=f"r-{number}")

            def insert(content: int, one: Transaction = one) -> object:
                try:
                    return writer.insert_transaction(one.model_copy(update={"latency_ms": content}))
                except ConflictingRecord as error:
                    return error.differing

            outcomes = at_once(lambda: insert(1), lambda: insert(2))
            assert sorted(map(str, outcomes)) == sorted([str(one.id), "('latency_ms',)"])
    assert count(database_url) == 10


def test_a_writer_waits_for_a_transaction_that_may_yet_be_undone(database_url: str) -> None:
    (sent,) = spread(1)
    engine = create_engine(database_url)
    with (
        writing(database_url) as writer,
        engine.connect() as connection,
        ThreadPoolExecutor(1) as thread,
    ):
        Telemetry(connection).insert_transaction(sent)
        waiting = thread.submit(writer.insert_transactions, [sent])
        while not sql(database_url, "SELECT pid FROM pg_locks WHERE NOT granted"):
            assert not waiting.done()
        connection.rollback()
        assert waiting.result(timeout=60) == WriteReport(inserted=1)
    engine.dispose()
    assert count(database_url) == 1


def test_a_record_that_vanishes_before_it_is_compared_is_not_a_success(
    writer: Writer, database_url: str
) -> None:
    sent = spread(3)
    writer.insert_transactions(sent)
    sql(
        database_url,
        "CREATE OR REPLACE FUNCTION ledger.requests_by_key(user_ids uuid[], timestamps"
        " timestamptz[], ids uuid[]) RETURNS SETOF ledger.llm_requests LANGUAGE sql"
        " AS 'SELECT * FROM ledger.llm_requests LIMIT 0'",
    )
    with pytest.raises(VanishedRecord):
        writer.insert_transaction(sent[0])
    with pytest.raises(VanishedRecord) as error:
        writer.insert_transactions(sent)
    assert report_of(error) == WriteReport()


# --- staging ---


def test_records_after_a_collision_are_written_as_before_it(
    writer: Writer, database_url: str
) -> None:
    sent = spread(100)
    writer.insert_transactions(sent[::2])
    later = [transaction() for _ in range(60)]
    report = writer.insert_transactions(chain(sent, later), batch_size=10)
    assert report == WriteReport(inserted=110, duplicates=50)
    assert count(database_url) == 160


# --- size ---


def peak_bytes(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_records(database_url: str) -> None:
    def good(number: int) -> Iterator[dict[str, Any]]:
        return (fields() for _ in range(number))

    def bad(number: int) -> Iterator[dict[str, Any]]:
        return (fields(latency_ms=-1) for _ in range(number))

    with writing(database_url) as writer:
        for records in (good, bad):
            writer.insert_transactions(records(1_500), batch_size=500)
            few = peak_bytes(lambda r=records: writer.insert_transactions(r(1_500), batch_size=500))  # type: ignore[misc]
            many = peak_bytes(
                lambda r=records: writer.insert_transactions(r(15_000), batch_size=500)  # type: ignore[misc]
            )
            assert many < few * 1.5


@pytest.mark.storage("postgres")  # what is measured is the client
@pytest.mark.skipif(not STATUS.exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize("kind", RECORDS)
def test_a_million_records_take_no_more_memory_than_ten_batches(
    database_url: str, kind: str
) -> None:
    million = 1_000_000
    inserted, rejected, grown_kib = written(database_url, kind, million)
    assert (inserted, rejected) == ((million, 0) if kind == "good" else (0, million))
    # One reference a record kept would be 8 MB.
    assert grown_kib < 4 * 1024
