"""The raw horizon of plain PostgreSQL: a row on the wrong side of it is refused, never hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event

from ledger import InvalidRecord, Ledger, RetentionRefused
from ledger.engine import engine
from ledger.errors import Contended
from ledger.maintenance.closing import close_day
from ledger.maintenance.connection import never
from ledger.maintenance.partitions import Attachment, Partition
from ledger.window import HOUR
from tests.books import ROLLUPS, SOMEBODY_WAITS, Books, call, opened, sums
from tests.databases import Target

pytestmark = [pytest.mark.storage("postgres"), pytest.mark.every_target]

DAY = timedelta(days=1)
KEEP = 20 * DAY


@pytest.fixture
def books(database_url: str, target: Target) -> Iterator[Books]:
    with opened(database_url, target) as books:
        yield books


def partition(day: datetime) -> Partition:
    return Partition(day=day.date(), attachment=Attachment.ATTACHED)


def lowers_retention(books: Books, _: datetime) -> None:
    books.keep("raw", KEEP)


def closes_the_day(books: Books, day: datetime) -> None:
    """As a maintainer that is killed right after it."""
    closing = engine(books.url)
    with closing.connect() as connection:
        assert close_day(connection, partition(day), never) is None
    closing.dispose()


@pytest.fixture
def writer(books: Books) -> Iterator[Connection]:
    """A transaction of a writer's, beside what the books do."""
    writing = engine(books.url)
    with writing.begin() as connection:
        yield connection
    writing.dispose()


def at_the_second_savepoint(connection: Connection, act: Callable[[], Any]) -> None:
    """Between the question which times are accepted, and the rows."""
    seen: list[str] = []

    def look(_: Connection, name: str) -> None:
        seen.append(name)
        if len(seen) == 2:
            act()

    event.listen(connection, "savepoint", look)


@pytest.mark.parametrize("moves", [lowers_retention, closes_the_day])
def test_a_row_that_was_accepted_before_the_horizon_moved_past_it_is_refused(
    books: Books, writer: Connection, moves: Callable[[Books, datetime], None]
) -> None:
    day = books.day(ago=25)
    books.write([call(day, 1), call(books.day(ago=3), 2)])
    books.ledger.maintenance.run()
    at_the_second_savepoint(writer, lambda: moves(books, day))
    late, recent = call(day + HOUR, 4), call(books.day(ago=3) + HOUR, 5)

    report = Ledger.bound(writer).telemetry.insert_transactions([late, recent])
    writer.commit()

    assert (report.inserted, report.rejected_count) == (1, 1)
    assert (report.rejected[0].index, report.rejected[0].error) == (0, InvalidRecord.__name__)
    books.written.append(recent)
    assert books.overview() == sums(books.written)
    books.ledger.maintenance.run()
    assert [books.rolled_up(level) for level in ROLLUPS] == 2 * [sums(books.written)]


def test_a_row_again_that_is_older_than_the_horizon_is_not_refused(books: Books) -> None:
    row = call(books.day(ago=25), 1)
    books.write([row])
    books.ledger.maintenance.run()
    before = books.sql("SELECT * FROM ledger.llm_requests")
    books.keep("raw", KEEP)

    books.sql(
        "INSERT INTO ledger.llm_requests SELECT * FROM ledger.llm_requests ON CONFLICT DO NOTHING"
    )
    with pytest.raises(psycopg.DatabaseError, match="are too old") as refused:
        books.sql(
            "INSERT INTO ledger.llm_requests SELECT (jsonb_populate_record(r,"
            " jsonb_build_object('user_id', gen_random_uuid()))).* FROM ledger.llm_requests r"
        )

    assert refused.value.sqlstate == "LG005"
    assert books.sql("SELECT * FROM ledger.llm_requests") == before


def test_the_horizon_waits_for_writers_and_then_for_their_rows(
    books: Books, writer: Connection
) -> None:
    books.write([call(books.day(ago=25), 1)])
    books.ledger.maintenance.run()
    row = call(books.day(ago=25) + HOUR, 4)
    Ledger.bound(writer).telemetry.insert_transaction(row)

    with pytest.raises(Contended):
        books.keep("raw", KEEP)
    writer.commit()
    books.written.append(row)
    with pytest.raises(RetentionRefused, match="still wait to be rolled up"):
        books.keep("raw", KEEP)
    books.ledger.maintenance.run()
    books.keep("raw", KEEP)

    assert books.overview() == sums(books.written)
    assert books.sql("SHOW lock_timeout") == [("0",)]


def retire(books: Books, day: datetime) -> None:
    books.sql(f"SELECT ledger.retire_day('{partition(day).name}')")


def detach(books: Books, day: datetime) -> str:
    name = f"ledger.{partition(day).name}"
    books.sql(f"ALTER TABLE ledger.llm_requests DETACH PARTITION {name}")
    return name


def test_only_a_day_that_is_closed_and_detached_is_retired(books: Books) -> None:
    day = books.day(ago=25)
    books.write([call(day, 1)])
    books.ledger.maintenance.run()

    with pytest.raises(psycopg.DatabaseError, match="is still attached"):
        retire(books, day)
    name = detach(books, day)
    with pytest.raises(psycopg.DatabaseError, match="still accepted and rolled up"):
        retire(books, day)
    assert books.sql(f"SELECT count(*) FROM {name}") == [(1,)]
    books.sql(f"UPDATE ledger.rollup_progress SET raw_from = '{day + DAY}'")
    retire(books, day)
    with pytest.raises(psycopg.errors.UndefinedTable):
        retire(books, day)

    assert [books.rolled_up(level) for level in ROLLUPS] == 2 * [sums(books.written)]


def test_a_day_that_is_attached_again_meanwhile_is_not_retired(books: Books) -> None:
    day = books.day(ago=25)
    books.write([call(day, 1)])
    books.ledger.maintenance.run()
    name = detach(books, day)
    books.sql(f"UPDATE ledger.rollup_progress SET raw_from = '{day + DAY}'")

    with ThreadPoolExecutor(1) as threads, books.connect() as other:
        with other.transaction():
            other.execute(
                f"ALTER TABLE ledger.llm_requests ATTACH PARTITION {name}"
                f" FOR VALUES FROM ('{day}') TO ('{day + DAY}')".encode()
            )
            retiring = threads.submit(retire, books, day)
            books.wait_until(SOMEBODY_WAITS)
        with pytest.raises(psycopg.DatabaseError, match="is still attached"):
            retiring.result()

    assert books.sql("SELECT count(*) FROM ledger.llm_requests") == [(1,)]
