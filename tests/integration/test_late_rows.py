"""Rows that come late: they correct the rollups at both levels, however old their hour is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from ledger import ALL_USERS, Window
from ledger.errors import RetentionRefused
from ledger.settings import Storage
from ledger.window import HOUR, floor
from tests.books import ROLLUPS, Books, call, calls, opened, sums
from tests.databases import Target

pytestmark = pytest.mark.every_target

AGES = [
    timedelta(hours=1),
    timedelta(days=13),
    timedelta(days=30),
    timedelta(days=60),
    timedelta(days=88),
]


@pytest.fixture
def books(database_url: str, target: Target) -> Iterator[Books]:
    with opened(database_url, target) as books:
        yield books


def test_a_late_row_corrects_its_hour_at_both_levels_after_retention_has_run(books: Books) -> None:
    books.accept_older_rows(timedelta(days=120))
    hours = [floor(books.last_closed_hour - age + HOUR, HOUR) for age in AGES]
    gone = [books.day(ago=ago) + 5 * HOUR for ago in (95, 110)]
    books.write(call(hour + timedelta(minutes=1), 1) for hour in [*hours, *gone])
    books.ledger.maintenance.run()
    books.keep("raw", timedelta(days=90))
    books.apply_retention()
    assert min(books.raw_days()) > gone[0].date()

    books.write(call(hour + timedelta(minutes=2), 2) for hour in hours)
    books.ledger.maintenance.run()

    for level in ROLLUPS:
        for hour in [*hours, *gone]:
            window = Window(start=hour, end=hour + HOUR)
            of_hour = [row for row in books.written if hour <= row.timestamp < hour + HOUR]
            assert books.rolled_up(level, window) == sums(of_hour)
    assert books.overview() == sums(books.written)
    reconciled = books.ledger.maintenance.reconcile(books.everything())
    assert reconciled.differences == ()
    assert reconciled.requests == 2 * len(hours)


def test_late_rows_of_many_ages_in_one_batch_reach_both_levels(books: Books) -> None:
    start = books.day(ago=85)
    books.write(calls(start, 300, over=timedelta(days=85)))
    books.ledger.maintenance.run()
    books.write(calls(start + timedelta(minutes=7), 300, over=timedelta(days=84)))
    books.ledger.maintenance.run()

    for level in ROLLUPS:
        assert books.shown(level) == sums(books.written)
    assert books.ledger.maintenance.reconcile(books.everything()).is_clean


@pytest.mark.storage("postgres")
def test_on_plain_postgresql_a_late_row_counts_at_once(books: Books) -> None:
    hour = books.day(ago=40)
    books.write([call(hour, 1)])
    books.ledger.maintenance.run()

    books.write([call(hour + timedelta(minutes=1), 2)])

    assert books.overview() == sums(books.written)
    assert [books.shown(level) for level in ROLLUPS] == 2 * [sums(books.written)]


def test_rows_of_days_without_a_partition_go_in_and_are_rolled_up(books: Books) -> None:
    books.write(call(books.day(ago=ago) + HOUR, ago) for ago in (89, 70, 50, 50, 3))
    books.ledger.maintenance.run()

    for level in ROLLUPS:
        assert books.rolled_up(level) == sums(books.written)


def test_a_shorter_retention_loses_no_row_that_was_not_yet_rolled_up(books: Books) -> None:
    start = books.day(ago=20)
    books.write([call(start, 1), call(start + 30 * HOUR, 2), call(books.day(ago=15) + HOUR, 3)])
    if books.target.storage is Storage.POSTGRES:
        with pytest.raises(RetentionRefused, match="still wait"):
            books.keep("raw", timedelta(days=15))
    books.ledger.maintenance.run()
    books.keep("raw", timedelta(days=15))

    assert books.overview() == sums(books.written)
    books.apply_retention()
    assert books.overview() == sums(books.written)
    assert [books.shown(level) for level in ROLLUPS] == 2 * [sums(books.written)]


def test_rows_beyond_the_horizon_are_rejected_and_change_nothing(books: Books) -> None:
    books.write([call(books.day(ago=20), 1)])
    books.ledger.maintenance.run()
    books.keep("raw", timedelta(days=15))
    books.apply_retention()

    late = call(books.day(ago=20) + HOUR, 2)
    report = books.ledger.telemetry.insert_transactions([late])
    books.ledger.maintenance.run()

    assert report.rejected_count == 1
    assert books.rolled_up(ROLLUPS[1]) == sums(books.written)
    overview = books.ledger.telemetry.overview(ALL_USERS, books.everything())
    assert overview.requests == 1
