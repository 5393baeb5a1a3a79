"""A maintainer that is killed at any point loses and doubles nothing: the next run goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event, make_url

from ledger import DatabaseUnavailable, InvalidRecord, Ledger
from ledger.ddl.rollup_refresh import REFRESH_LOCK
from ledger.engine import engine
from ledger.maintenance import Maintenance
from ledger.window import HOUR
from tests.books import PATIENCE_SECONDS, ROLLUPS, SOMEBODY_WAITS, Books, call, calls, opened, sums
from tests.databases import Databases, Target
from tests.servers import libpq

DAY = timedelta(days=1)


@pytest.fixture
def books(database_url: str, target: Target) -> Iterator[Books]:
    with opened(database_url, target) as books:
        yield books


def must_balance(books: Books) -> None:
    assert [books.shown(level) for level in ROLLUPS] == 2 * [sums(books.written)]
    assert books.overview() == sums(books.written)
    reconciled = books.ledger.maintenance.reconcile(books.everything())
    assert reconciled.differences == ()


KEEP = 3
"""Days; in these tests a retention changes without its command, so that the past stays past."""


def keep_for(books: Books, days: int) -> None:
    books.sql(
        "UPDATE ledger.installation SET retention = retention ||"
        f" jsonb_build_object('llm_requests', '{days} days')"
    )


def prepare(books: Books) -> None:
    """Days to retire and hours to roll up, some of them late and some in both."""
    old = (KEEP + 3, KEEP + 2)
    books.write(calls(books.day(ago=old[0]), 30, over=2 * DAY))
    books.write([call(books.day(ago=2), 1)])
    books.ledger.maintenance.run()
    books.write(call(books.day(ago=ago) + 7 * HOUR, ago) for ago in (*old, 2, 1))
    keep_for(books, KEEP)


def ended_at(point: int, url: str) -> Engine:
    """An engine whose session the server ends just before it executes that statement.

    What came before is committed, or, in the middle of a transaction, is not.
    """
    doomed = engine(url)
    executed = count(1)

    @event.listens_for(doomed, "before_cursor_execute")
    def end(connection: Any, *_: object) -> None:
        if next(executed) == point:
            process = connection.connection.driver_connection.info.backend_pid
            with psycopg.connect(libpq(make_url(url)), autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 10000)", [process])

    return doomed


@pytest.mark.storage("postgres")
def test_ended_between_any_two_statements_of_a_run(
    databases: Databases, target: Target, database_url: str
) -> None:
    with opened(database_url, target) as prepared:
        prepare(prepared)
        written = prepared.written
    template = str(make_url(database_url).database)
    databases._close_to_all(target, template)

    for point in count(1):
        name = databases.create(target.server, template=template)
        url = databases.url(target.server, name)
        doomed = ended_at(point, url)
        if finishes(Maintenance(doomed)):
            assert point > 20
            doomed.dispose()
            databases.drop(name)
            break
        doomed.dispose()
        with opened(url, target) as books:
            books.written = written
            assert books.overview() == sums(written), f"right after the end at {point}"
            books.ledger.maintenance.run()
            assert books.raw_days()[0] >= books.day(ago=KEEP).date()
            must_balance(books)
        databases.drop(name)


def finishes(maintenance: Maintenance) -> bool:
    try:
        maintenance.run()
    except DatabaseUnavailable:
        return False
    return True


IS_DETACHING = "EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)"
FOREVER = """
import sys
from ledger.engine import engine
from ledger.maintenance import Maintenance

Maintenance(engine(sys.argv[1])).run_forever()
"""


@pytest.mark.storage("postgres")
def test_killed_in_the_middle_of_a_detach(books: Books) -> None:
    prepare(books)
    with books.connect() as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM ledger.llm_requests")
        with subprocess.Popen([sys.executable, "-c", FOREVER, books.url]) as maintainer:
            try:
                books.wait_until(IS_DETACHING)
                assert maintainer.poll() is None
            finally:
                maintainer.kill()
        assert books.overview() == sums(books.written)
        # Its session goes on in the server, and this run comes beside it.
        assert books.ledger.maintenance.run().days_retired == ()
        assert books.overview() == sums(books.written)
    books.ledger.maintenance.run()
    books.ledger.maintenance.run()

    assert books.raw_days()[0] >= books.day(ago=KEEP).date()
    must_balance(books)


@pytest.mark.storage("postgres")
def test_no_day_is_closed_beside_a_refresh_that_may_rebuild_it(books: Books) -> None:
    prepare(books)
    horizon = books.sql("SELECT raw_from FROM ledger.rollup_progress WHERE isfinite(raw_from)")
    with books.connect() as other, other.transaction():
        other.execute(f"SELECT pg_advisory_xact_lock({REFRESH_LOCK})")
        report = books.ledger.maintenance.run()

    (problem,) = [problem for problem in report.problems if "closed" in problem]
    assert f"{books.day(ago=KEEP + 3):%Y%m%d}" in problem
    assert report.days_retired == ()
    now = books.sql("SELECT raw_from FROM ledger.rollup_progress WHERE isfinite(raw_from)")
    assert now == horizon
    assert len(books.ledger.maintenance.run().days_retired) == 2
    must_balance(books)


@pytest.mark.storage("postgres")
def test_no_day_is_closed_while_a_writer_of_it_is_open(books: Books) -> None:
    day = books.day(ago=KEEP + 2)
    books.write([call(day, 1)])
    books.ledger.maintenance.run()
    writing = engine(books.url)
    with writing.begin() as connection:
        row = call(day, 7)
        Ledger.bound(connection).telemetry.insert_transaction(row)
        keep_for(books, KEEP)
        report = books.ledger.maintenance.run()
    writing.dispose()
    books.written.append(row)

    assert (len(report.problems), report.days_retired) == (1, ())
    assert books.overview() == sums(books.written)
    assert books.ledger.maintenance.run().days_retired == (day.date(),)
    must_balance(books)


@pytest.mark.storage("timescale")
def test_ended_before_it_moves_the_watermark(books: Books) -> None:
    books.write(calls(books.last_closed_hour - DAY, 50, over=DAY))
    with books.connect() as other, other.transaction():
        other.execute("SELECT FROM ledger.rollup_progress FOR UPDATE")
        maintainer = threading.Thread(target=finishes, args=[books.ledger.maintenance])
        maintainer.start()
        books.wait_until(SOMEBODY_WAITS)
        assert books.overview() == sums(books.written)
        books.sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        maintainer.join()
    assert books.overview() == sums(books.written)
    books.ledger.maintenance.run()

    must_balance(books)


@pytest.mark.storage("timescale")
def test_ended_between_any_two_statements_of_a_run_on_timescale(books: Books) -> None:
    for point in count(1):
        books.write([call(books.day(ago=5), 10 * point), call(books.last_closed_hour, 10 * point)])
        doomed = ended_at(point, books.url)
        has_finished = finishes(Maintenance(doomed))
        doomed.dispose()
        books.ledger.maintenance.run()
        assert books.overview() == sums(books.written)
        if has_finished:
            break
    must_balance(books)


@pytest.mark.storage("postgres")
def test_rows_that_are_written_while_their_day_is_retired_are_kept_or_refused(books: Books) -> None:
    day = books.day(ago=KEEP + 1)
    books.write([call(day, 0)])
    books.ledger.maintenance.run()
    is_over = threading.Event()
    written = []

    def write() -> None:
        for number in count(1):
            row = call(day + timedelta(seconds=number % 80_000), number)
            try:
                books.ledger.telemetry.insert_transaction(row)
            except InvalidRecord:
                return
            written.append(row)
            if is_over.is_set():
                return

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        while len(written) < 50:
            assert any(writer.is_alive() for writer in writers)
        # The command would refuse, as there are always hours that wait.
        keep_for(books, KEEP)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while day.date() in books.raw_days():
            assert time.monotonic() < deadline
            books.ledger.maintenance.run()
    finally:
        is_over.set()
        for writer in writers:
            writer.join()
    books.written += written

    must_balance(books)
    assert books.rolled_up(ROLLUPS[1]) == sums(books.written)
