"""A reader that asks for totals all the time sees no wrong answer, whatever maintenance does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from ledger import Window
from ledger.window import HOUR
from tests.books import ROLLUPS, Books, Sums, call, calls, opened, sums
from tests.databases import Target

LEAST_ANSWERS = 20
DAY = timedelta(days=1)


@pytest.fixture
def books(database_url: str, target: Target) -> Iterator[Books]:
    with opened(database_url, target) as books:
        yield books


class Poller:
    """Asks one question over and over in a thread of its own, and keeps what came."""

    def __init__(self, ask: Callable[[], Sums]) -> None:
        self._ask = ask
        self._is_over = threading.Event()
        self._has_begun = threading.Event()
        self._has_enough = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self.answers: list[Sums] = []
        self.failure: BaseException | None = None

    def _poll(self) -> None:
        try:
            while not self._is_over.is_set():
                self.answers.append(self._ask())
                self._has_begun.set()
                if len(self.answers) >= LEAST_ANSWERS:
                    self._has_enough.set()
        except BaseException as failure:
            self.failure = failure
            raise
        finally:
            self._has_begun.set()
            self._has_enough.set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self._thread.start()
        self._has_begun.wait()
        try:
            yield
            self._has_enough.wait()
        finally:
            self._is_over.set()
            self._thread.join()
        assert self.failure is None


@contextmanager
def polled(books: Books) -> Iterator[list[Poller]]:
    """The repository and both of the SQL user's rollups, each polled."""
    pollers = [
        Poller(books.overview),
        *(Poller(lambda level=level: books.shown(level)) for level in ROLLUPS),  # type: ignore[misc]
    ]
    with pollers[0].at_work(), pollers[1].at_work(), pollers[2].at_work():
        yield pollers


def refresh_by_the_hour(books: Books) -> None:
    """The refresh in the smallest steps that it has."""
    if books.is_timescale:
        books.ledger.maintenance.run()
        return
    while books.sql("SELECT ledger.refresh_metrics(1)")[0][0] > 0:
        pass


def test_through_a_day_of_catch_up(books: Books) -> None:
    books.write(calls(books.last_closed_hour - DAY, 3_000, over=DAY))
    expected = sums(books.written)

    with polled(books) as pollers:
        refresh_by_the_hour(books)

    for poller in pollers:
        assert set(poller.answers) == {expected}
    assert books.rolled_up(ROLLUPS[1]) == expected


def test_through_a_refresh_of_hours_that_were_rolled_up_before(books: Books) -> None:
    books.write(calls(books.last_closed_hour - DAY, 1_000, over=DAY))
    refresh_by_the_hour(books)
    late = calls(books.last_closed_hour - DAY + timedelta(seconds=1), 500, over=DAY)
    before = sums(books.written)
    books.write(late)
    after = sums(books.written)
    # TimescaleDB shows late rows once they are refreshed, hour by hour; the sums of whole
    # refreshes only are asked for here, so that any other answer is a wrong one.
    with polled(books) as pollers:
        refresh_by_the_hour(books)

    for poller in pollers:
        if books.is_timescale:
            assert set(poller.answers) <= {before, after}
        else:
            assert set(poller.answers) == {after}
    assert books.shown(ROLLUPS[1]) == after


def test_through_a_retention_run(books: Books) -> None:
    books.write(calls(books.day(ago=16), 1_600, over=16 * DAY))
    books.ledger.maintenance.run()
    expected = sums(books.written)
    books.keep("raw", 10 * DAY)

    with polled(books) as pollers:
        books.apply_retention()

    assert min(books.raw_days()) >= (books.day(ago=11)).date()
    for poller in pollers:
        assert set(poller.answers) == {expected}


def test_beside_a_writer_totals_hold_what_was_committed_and_nothing_twice(books: Books) -> None:
    """Rows of the present go in one by one while a day is rolled up and others are retired."""
    books.write(calls(books.day(ago=14), 1_400, over=14 * DAY))
    books.ledger.maintenance.run()
    books.keep("raw", 10 * DAY)
    present = books.now - timedelta(minutes=1)
    committed = len(books.written)
    bounds: list[tuple[int, int, int]] = []

    def ask() -> Sums:
        least = committed
        answer = books.overview()
        # One more may be committed and not yet counted here.
        bounds.append((least, answer.requests, committed + 1))
        return answer

    poller = Poller(ask)
    is_over = threading.Event()

    def write() -> None:
        nonlocal committed
        number = 0
        while not is_over.is_set():
            books.ledger.telemetry.insert_transaction(call(present, number))
            committed += 1
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    with poller.at_work():
        books.apply_retention()
    is_over.set()
    writer.join()

    assert [bound for bound in bounds if not bound[0] <= bound[1] <= bound[2]] == []
    assert books.overview().requests == committed


def test_a_window_of_retired_hours_stays_right_to_the_hour(books: Books) -> None:
    start = books.day(ago=13)
    books.write(calls(start, 500, over=2 * DAY))
    books.ledger.maintenance.run()
    books.keep("raw", 10 * DAY)
    books.apply_retention()

    window = Window(start=start + 5 * HOUR, end=start + 30 * HOUR)
    within = [row for row in books.written if window.start <= row.timestamp < window.end]
    for level in ROLLUPS:
        assert books.rolled_up(level, window) == sums(within)
