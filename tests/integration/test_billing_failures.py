"""What booking that fails leaves behind, says, and loses: whole batches, and sums of just those."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, cast

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from ledger import AsyncLedger, Ledger
from ledger.errors import DatabaseUnavailable, DiskFull, LedgerError
from ledger.records.report import WriteReport
from ledger.records.usage import Usage
from tests.alembics import CHECKOUT
from tests.catalogues import until
from tests.ledgers import NOW, Awaited, Books
from tests.millions import STATUS, USAGES, written
from tests.reconciling import FOLD, reconciled
from tests.recounting import BINNED, FOLDED, assert_sums_are_the_rows, recounted, waiting
from tests.writers import sql, superuser

DRIVERS: Final = ("psycopg", "psycopg2", "asyncpg", "psycopg_async")
SENT: Final = 30
BATCH: Final = 10

MOMENTS: Final = {
    "its row": "TRIGGER spring BEFORE INSERT ON ledger.token_usage_ledger",
    "its sums": "TRIGGER spring BEFORE INSERT ON ledger.token_usage_deltas",
    "its commit": "CONSTRAINT TRIGGER spring AFTER INSERT ON ledger.token_usage_ledger"
    " DEFERRABLE INITIALLY DEFERRED",
}
"""When, while a call of the model `trap` is booked, it happens."""

DISCONNECT: Final = "PERFORM pg_terminate_backend(pg_backend_pid());"
FILL: Final = "RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'no space left';"
GATE: Final = 5_000
PASS: Final = f"PERFORM pg_advisory_xact_lock({GATE});"


def calls(books: Books, trap: int) -> list[Usage]:
    """Calls of some hours, the one at that place of the model `trap`; telemetry has them all."""
    usages = [
        books.usage(
            f"r{number:02}",
            created_at=NOW - timedelta(hours=1 + number % 7),
            model="trap" if number == trap else "gpt-4o",
            status="failed" if number % 4 == 0 else "success",
        )
        for number in range(SENT)
    ]
    report = books.ledger.telemetry.insert_transactions(
        {
            "user_id": usage.user_id,
            "request_id": usage.request_id,
            "timestamp": usage.created_at,
            "provider": usage.provider,
            "model": usage.model,
            "latency_ms": 1,
        }
        for usage in usages
    )
    assert report.inserted == SENT
    return usages


@contextmanager
def trapped(books: Books, moment: str, body: str) -> Iterator[None]:
    """Meanwhile the server does this when it books a call of the model `trap`."""
    sql(
        books.url,
        "CREATE FUNCTION public.spring() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {body} RETURN NEW; END $$",
    )
    sql(
        books.url,
        f"CREATE {MOMENTS[moment]} FOR EACH ROW WHEN (NEW.model_id = 'trap')"
        " EXECUTE FUNCTION public.spring()",
    )
    yield
    sql(books.url, "DROP FUNCTION public.spring CASCADE")


def report_of(error: pytest.ExceptionInfo[LedgerError]) -> WriteReport:
    report = error.value.report
    assert isinstance(report, WriteReport)
    return report


def must_balance(books: Books, booked: int) -> None:
    """So many of the calls are booked, and nothing is wrong but that the others are not."""
    for _ in range(2):
        assert recounted(books)[0] == booked
        assert_sums_are_the_rows(books)
        found = reconciled(books)
        assert found.differences_found == found.calls.never_billed.count == SENT - booked
        sql(books.url, FOLD)


# --- a server that goes away, or is full ---


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("before", [BATCH, 2 * BATCH])
@pytest.mark.parametrize(
    "body, fault", [(DISCONNECT, DatabaseUnavailable), (FILL, DiskFull)], ids=["gone", "full"]
)
def test_a_batch_that_fails_is_not_booked_and_those_before_it_are_told(
    books: Books, body: str, fault: type[LedgerError], before: int, moment: str
) -> None:
    sent = calls(books, trap=before + 5)
    told = rf"Before that, {before} records of this call were committed"
    with trapped(books, moment, body), pytest.raises(fault, match=told) as error:
        books.ledger.billing.record_usages(sent, batch_size=BATCH)
    assert report_of(error) == WriteReport(inserted=before)
    must_balance(books, before)

    # Sending everything again is safe, on a new connection of the same pool.
    again = books.ledger.billing.record_usages(sent)
    assert again == WriteReport(inserted=SENT - before, duplicates=before)
    must_balance(books, SENT)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    "body, fault", [(DISCONNECT, DatabaseUnavailable), (FILL, DiskFull)], ids=["gone", "full"]
)
def test_one_call_that_fails_is_not_booked(
    books: Books, body: str, fault: type[LedgerError], moment: str
) -> None:
    sent = calls(books, trap=7)
    with trapped(books, moment, body), pytest.raises(fault):
        books.ledger.billing.record_usage(sent[7])
    must_balance(books, 0)
    assert not books.ledger.billing.record_usage(sent[7]).is_duplicate
    must_balance(books, 1)


def test_what_was_booked_of_a_batch_before_the_rest_failed_is_told(books: Books) -> None:
    """A record that only the database refuses has its batch booked by halves, each committed."""
    sent = calls(books, trap=17)
    table = "ALTER TABLE ledger.token_usage_ledger"
    sql(books.url, f"{table} ADD CONSTRAINT ours CHECK (request_id <> 'r10')")
    with trapped(books, "its row", DISCONNECT), pytest.raises(DatabaseUnavailable) as error:
        books.ledger.billing.record_usages(sent, batch_size=BATCH)
    assert report_of(error) == WriteReport(inserted=BATCH + 4)
    must_balance(books, BATCH + 4)

    sql(books.url, f"{table} DROP CONSTRAINT ours")
    assert books.ledger.billing.record_usages(sent).duplicates == BATCH + 4
    must_balance(books, SENT)


# --- a caller's transaction ---


@contextmanager
def callers_transaction(url: str, driver: str) -> Iterator[Ledger]:
    """A ledger in a transaction of its caller's, who commits at the end."""
    its_url = make_url(url).set(drivername=f"postgresql+{driver}")
    if driver in {"psycopg", "psycopg2"}:
        with create_engine(its_url, poolclass=NullPool).begin() as connection:
            yield Ledger.bound(connection)
        return
    if driver == "asyncpg":
        its_url = its_url.set(port=None, query={"host": its_url.query["host"]})
    with asyncio.Runner() as runner:
        begun = create_async_engine(its_url, poolclass=NullPool).begin()
        bound = AsyncLedger.bound(runner.run(begun.__aenter__()))
        try:
            yield cast("Ledger", Awaited(bound, runner))
        finally:
            runner.run(begun.__aexit__(*sys.exc_info()))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_callers_connection_that_is_lost_leaves_nothing_booked(
    called: Books, driver: str
) -> None:
    sent = calls(called, trap=25)
    told = r"Before that, 20 records of this call were written in your transaction"
    with (
        trapped(called, "its row", DISCONNECT),
        pytest.raises(DatabaseUnavailable, match=told) as error,
        callers_transaction(called.url, driver) as bound,
    ):
        bound.billing.record_usages(sent, batch_size=BATCH)
    assert report_of(error) == WriteReport(inserted=20)
    must_balance(called, 0)

    with callers_transaction(called.url, driver) as bound:
        report = bound.billing.record_usages(sent, batch_size=BATCH)
        assert report == WriteReport(inserted=SENT)
    must_balance(called, SENT)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_full_disk_leaves_the_caller_what_was_booked_before(called: Books, driver: str) -> None:
    sent = calls(called, trap=25)
    with trapped(called, "its sums", FILL), callers_transaction(called.url, driver) as bound:
        with pytest.raises(DiskFull) as error:
            bound.billing.record_usages(sent, batch_size=BATCH)
        assert report_of(error) == WriteReport(inserted=20)
    must_balance(called, 20)


# --- a process that is killed ---

RECORD = f"""
import json, sys
from ledger import Ledger

with Ledger.connect(sys.argv[1]) as ledger:
    ledger.billing.record_usages(json.load(sys.stdin), batch_size={BATCH})
"""


@contextmanager
def closed_gate(books: Books) -> Iterator[None]:
    """Meanwhile nobody passes."""
    with superuser(books.url) as keeper:
        keeper.execute(f"SELECT pg_advisory_lock({GATE})".encode())
        yield


@contextmanager
def recording(books: Books, usages: list[Usage]) -> Iterator[subprocess.Popen[str]]:
    """A process that records them; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", RECORD, books.url], stdin=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps([usage.model_dump(mode="json") for usage in usages]))
            process.stdin.close()
            yield process
        finally:
            process.kill()


def sessions(books: Books, condition: str) -> list[tuple[int]]:
    """The server's processes in this database of which this holds."""
    return sql(
        books.url,
        "SELECT pid FROM pg_stat_activity"
        f" WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition}",
    )


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_that_is_killed_leaves_whole_batches(called: Books, moment: str) -> None:
    sent = calls(called, trap=25)
    waits = "wait_event_type = 'Lock' AND wait_event = 'advisory'"
    with trapped(called, moment, PASS):
        with closed_gate(called), recording(called, sent) as process:
            until(lambda: bool(sessions(called, waits)), "a session at the gate")
            [(session,)] = sessions(called, waits)
            process.kill()
            process.wait()
        # Its session goes on in the server, until it finds that nobody listens.
        until(lambda: not sessions(called, f"pid = {session}"), "the end of the session")
    # A commit that has begun is one, though who asked for it never knew.
    booked = SENT if moment == "its commit" else 2 * BATCH
    must_balance(called, booked)

    again = called.ledger.billing.record_usages(sent)
    assert again == WriteReport(inserted=SENT - booked, duplicates=booked)
    must_balance(called, SENT)


# --- a folder that is cut off ---

FOLDS: Final = "wait_event_type = 'Lock' AND query LIKE 'SELECT ledger.fold_token_usage%'"


@pytest.mark.parametrize("level", [*FOLDED, *BINNED])
def test_a_fold_that_is_cut_off_in_the_middle_of_a_level_folds_nothing(
    called: Books, level: str
) -> None:
    sent = calls(called, trap=5)
    called.ledger.billing.record_usages(sent[:20])
    assert called.ledger.maintenance.run().deltas_folded > 0
    called.ledger.billing.record_usages(sent[20:])
    deltas = f"SELECT d::text FROM ledger.{FOLDED.get(level, 'token_usage_deltas')} d ORDER BY 1"
    unfolded = sql(called.url, deltas)

    with superuser(called.url) as holder, ThreadPoolExecutor(1) as thread, holder.transaction():
        holder.execute(f"SELECT FROM ledger.{level} FOR UPDATE".encode())
        folding = thread.submit(called.ledger.maintenance.run)
        until(lambda: bool(sessions(called, FOLDS)), "a fold that waits for a row")
        [(session,)] = sessions(called, FOLDS)
        assert_sums_are_the_rows(called)
        sql(called.url, f"SELECT pg_terminate_backend({session}, 10000)")
        with pytest.raises(DatabaseUnavailable):
            folding.result(timeout=60)
    assert sql(called.url, deltas) == unfolded != []
    assert_sums_are_the_rows(called)

    assert called.ledger.maintenance.run().deltas_folded >= len(unfolded)
    assert waiting(called) == 0
    must_balance(called, SENT)


# --- size ---

USAGES_OF_LESS_THAN_A_MINUTE: Final = 200_000
"""Not a million, which takes 66 s."""


@pytest.mark.storage("postgres")  # what is measured is the client
@pytest.mark.skipif(not STATUS.exists(), reason="the peak of memory is read from Linux's /proc")
def test_many_usages_good_and_bad_take_no_more_memory_than_ten_batches(database_url: str) -> None:
    many = USAGES_OF_LESS_THAN_A_MINUTE
    inserted, rejected, grown_kib = written(database_url, USAGES, many)
    assert (inserted, rejected) == (many // 2, many // 2)
    # As much as for 50,000 or a million; what is kept of a record would be 200 MB a KiB.
    assert grown_kib < 4 * 1024
