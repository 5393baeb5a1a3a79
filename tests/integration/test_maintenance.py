"""Maintenance: what a run does, beside others, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Self

import pytest

from ledger import DatabaseUnavailable, Ledger, LedgerError, SchemaNotReady
from ledger.ddl.rollup_refresh import REFRESH_LOCK
from ledger.engine import async_engine
from ledger.maintenance import AsyncMaintenance, MaintenanceReport
from ledger.models.telemetry import HOUR_ROLLUP, MINUTE_ROLLUP
from ledger.window import HOUR
from tests.books import (
    PATIENCE_SECONDS,
    ROLLUPS,
    SOMEBODY_WAITS,
    Books,
    call,
    calls,
    opened,
    sums,
)
from tests.databases import Target

pytestmark = pytest.mark.every_target

DAY = timedelta(days=1)
SOON = timedelta(milliseconds=20)


@pytest.fixture
def books(database_url: str, target: Target) -> Iterator[Books]:
    with opened(database_url, target) as books:
        yield books


def days_with_partition(books: Books) -> list[str]:
    rows = books.sql(
        "SELECT right(relname, 8) FROM pg_inherits JOIN pg_class ON oid = inhrelid"
        " WHERE inhparent = 'ledger.llm_requests'::regclass ORDER BY 1"
    )
    return [day for (day,) in rows]


def test_a_run_rolls_up_every_ended_hour(books: Books) -> None:
    books.write(calls(books.last_closed_hour - DAY, 200, over=DAY + HOUR))

    report = books.ledger.maintenance.run()

    assert report.storage == books.target.storage
    assert report.watermark == books.last_closed_hour + HOUR
    assert report.groups_waiting == 0
    for level in ROLLUPS:
        assert books.rolled_up(level) == sums(books.written)


@pytest.mark.storage("postgres")
def test_a_run_makes_the_partitions_of_today_and_a_week_ahead(books: Books) -> None:
    report = books.ledger.maintenance.run()

    days = [f"{books.day(ago=-ahead):%Y%m%d}" for ahead in range(8)]
    assert (report.partitions_made, days_with_partition(books)) == (8, days)
    assert books.ledger.maintenance.run().partitions_made == 0


@pytest.mark.storage("postgres")
def test_retention_removes_whole_days_of_raw_rows_and_keeps_what_they_added_up_to(
    books: Books,
) -> None:
    ages = (30, 25, 20, 5, 0)
    books.write(call(books.day(ago=ago), ago) for ago in ages)
    books.ledger.maintenance.run()
    books.keep("raw", 20 * DAY)

    report = books.ledger.maintenance.run()

    # The day that began twenty days ago is not over for as long.
    gone = tuple(books.day(ago=ago).date() for ago in (30, 25))
    assert (report.days_retired, report.problems) == (gone, ())
    assert books.raw_days() == [books.day(ago=ago).date() for ago in (20, 5, 0)]
    assert [books.shown(level) for level in ROLLUPS] == 2 * [sums(books.written)]
    assert books.overview() == sums(books.written)


@pytest.mark.storage("postgres")
def test_retention_deletes_old_rollup_rows_by_whole_buckets(books: Books) -> None:
    for level in ROLLUPS:
        books.sql(
            f"INSERT INTO ledger.{level}_materialized SELECT date_bin('1 hour', now() - age,"
            " '1970-01-01Z'), gen_random_uuid(), 'p', 'm', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,"
            " ARRAY[1] FROM unnest(ARRAY[interval '89 days', '91 days', '100 days', '729 days',"
            " '731 days', '800 days', '900 days']) AS age"
        )

    report = books.ledger.maintenance.run()

    assert (report.minute_rows_deleted, report.hour_rows_deleted) == (6, 3)
    assert books.rolled_up(MINUTE_ROLLUP).requests == 1
    assert books.rolled_up(HOUR_ROLLUP).requests == 4


@pytest.mark.storage("postgres")
def test_a_day_that_is_in_use_is_retired_later_and_who_uses_it_is_named(books: Books) -> None:
    books.write([call(books.day(ago=30), 1)])
    books.ledger.maintenance.run()
    books.keep("raw", 20 * DAY)
    with books.connect() as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM ledger.llm_requests")
        process = reader.info.backend_pid
        held_up = books.ledger.maintenance.run()
        again = books.ledger.maintenance.run()

    (problem,) = held_up.problems
    assert f"process {process} is in a transaction" in problem
    assert (again.days_retired, len(again.problems)) == ((), 1)
    assert books.overview() == sums(books.written)
    assert books.ledger.maintenance.run().days_retired == (books.day(ago=30).date(),)
    assert books.overview() == sums(books.written)


@pytest.mark.storage("postgres")
def test_a_day_that_somebody_detached_is_left_alone_and_reported(books: Books) -> None:
    day = books.day(ago=3)
    books.write([call(day, 1)])
    name = f"ledger.llm_requests_p{day:%Y%m%d}"
    books.sql(f"ALTER TABLE ledger.llm_requests DETACH PARTITION {name}")

    (problem,) = books.ledger.maintenance.run().problems

    remedies = problem.partition("attach it again: ")[2].split("; ")
    for remedy in remedies:
        books.sql(remedy)
    assert len(remedies) == 2
    assert books.ledger.maintenance.run().problems == ()
    assert books.overview() == sums(books.written)


def test_maintainers_beside_each_other_and_writers_lose_and_double_nothing(books: Books) -> None:
    books.write(calls(books.day(ago=14), 700, over=14 * DAY))
    books.ledger.maintenance.run()
    books.keep("raw", 10 * DAY)
    ages = [timedelta(days=ago) for ago in range(9)]

    def write(number: int) -> None:
        books.write(
            call(books.last_closed_hour - age + SOON * number, number, model=f"m{number % 3}")
            for age in ages
        )

    def maintain(_: int) -> MaintenanceReport:
        with Ledger.connect(books.url) as another:
            return another.maintenance.run()

    with ThreadPoolExecutor(6) as pool:
        reporting = pool.map(maintain, range(6))
        written = pool.map(write, range(10, 30))
        reports = list(reporting)
        assert all(answer is None for answer in written)

    retired = [day for report in reports for day in report.days_retired]
    if books.is_timescale:  # who comes second waits for the first
        assert [report.problems for report in reports] == 6 * [()]
    books.apply_retention()
    assert len(retired) == len(set(retired))
    assert [books.shown(level) for level in ROLLUPS] == 2 * [sums(books.written)]
    assert books.ledger.maintenance.reconcile(books.everything()).is_clean


async def test_awaited_a_run_does_the_same(books: Books) -> None:
    books.write([*calls(books.day(ago=14), 140, over=14 * DAY), call(books.day(ago=30), 1)])
    books.ledger.maintenance.run()
    if not books.is_timescale:
        books.keep("raw", 20 * DAY)
    engine = async_engine(books.url)

    report = await AsyncMaintenance(engine).run()
    reconciled = await AsyncMaintenance(engine).reconcile(books.everything())
    await engine.dispose()

    retired = () if books.is_timescale else (books.day(ago=30).date(),)
    assert report.days_retired == retired
    assert (reconciled.differences, reconciled.requests) == ((), 141 - len(retired))
    assert books.overview() == sums(books.written)


def test_a_database_without_a_ledger_is_refused_with_the_way_out(empty_database_url: str) -> None:
    with Ledger.connect(empty_database_url) as ledger, pytest.raises(SchemaNotReady) as refused:
        ledger.maintenance.run()
    assert "ledger db upgrade" in str(refused.value)


class Watched:
    """Runs for ever in a thread of its own, and what came of it."""

    def __init__(self, books: Books) -> None:
        self.stop = threading.Event()
        self.has_reported = threading.Event()
        self.has_failed = threading.Event()
        self.failures: list[Exception] = []
        self._ledger = Ledger.connect(books.url)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._ledger.maintenance.run_forever(
            every=SOON, stop=self.stop, on_report=self._reported, on_failure=self._failed
        )

    def _reported(self, _: MaintenanceReport) -> None:
        self.has_reported.set()

    def _failed(self, failure: Exception) -> None:
        self.failures.append(failure)
        self.has_failed.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            error.add_note(f"runs failed with {self.failures}")
        self.stop.set()
        self._thread.join(timeout=10)
        self._ledger.close()
        assert not self._thread.is_alive()


def end_others_until(books: Books, is_enough: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_enough():
        assert time.monotonic() < deadline
        books.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )


def test_running_for_ever_outlives_lost_connections(books: Books) -> None:
    with Watched(books) as watched:
        for _ in range(3):
            assert watched.has_reported.wait(timeout=30)
            watched.has_failed.clear()
            end_others_until(books, watched.has_failed.is_set)
            watched.has_reported.clear()
        books.write([call(books.last_closed_hour, 1)])
        watched.has_reported.clear()
        assert watched.has_reported.wait(timeout=30)

    assert {type(failure) for failure in watched.failures} == {DatabaseUnavailable}
    books.ledger.maintenance.run()
    assert books.rolled_up(HOUR_ROLLUP) == sums(books.written)


def test_stopping_interrupts_what_waits(books: Books) -> None:
    books.write([call(books.last_closed_hour, 1)])
    with books.connect() as other, other.transaction():
        # The refresh ends with the watermark, and waits for whoever holds that.
        other.execute("SELECT FROM ledger.rollup_progress FOR UPDATE")
        with Watched(books) as watched:
            books.wait_until(SOMEBODY_WAITS)
            watched.stop.set()
            watched._thread.join(timeout=5)
            assert not watched._thread.is_alive()
    assert watched.failures == []
    books.ledger.maintenance.run()
    assert books.rolled_up(HOUR_ROLLUP) == sums(books.written)


async def test_awaited_running_for_ever_outlives_lost_connections_and_stops(books: Books) -> None:
    engine = async_engine(books.url)
    stop, has_reported, has_failed = asyncio.Event(), asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(
        AsyncMaintenance(engine).run_forever(
            every=SOON,
            stop=stop,
            on_report=lambda _: has_reported.set(),
            on_failure=lambda _: has_failed.set(),
        )
    )
    await has_reported.wait()
    await asyncio.to_thread(end_others_until, books, has_failed.is_set)
    has_reported.clear()
    await has_reported.wait()
    stop.set()
    async with asyncio.timeout(10):
        await running
    await engine.dispose()


@pytest.mark.storage("timescale")
def test_a_job_that_is_disabled_is_reported(books: Books) -> None:
    before = books.ledger.maintenance.run().problems
    disabled = [
        ("refresh_metrics", "refreshes"),
        ("policy_retention", "retention policy"),
        ("policy_compression", "columnstore policy"),
    ]
    for procedure, words in disabled:
        (number,) = books.sql(
            f"SELECT min(job_id) FROM timescaledb_information.jobs WHERE proc_name = '{procedure}'"
        )[0]
        books.sql(f"SELECT alter_job({number}, scheduled => false)")

        found = set(books.ledger.maintenance.run().problems) - set(before)

        (problem,) = found
        assert words in problem
        remedy = problem.partition("disabled; ")[2]
        books.sql(remedy)
        assert set(books.ledger.maintenance.run().problems) <= set(before)


@pytest.mark.storage("timescale")
def test_a_policy_that_is_gone_is_reported(books: Books) -> None:
    before = books.ledger.maintenance.run().problems
    books.sql("SELECT remove_retention_policy('ledger.llm_metrics_1h')")

    found = set(books.ledger.maintenance.run().problems) - set(before)

    assert found == {
        "the retention policy of llm_metrics_1h is missing; `ledger db check` says what else is"
    }


@pytest.mark.storage("postgres")
def test_rows_that_somebody_keeps_from_being_rolled_up_are_reported(books: Books) -> None:
    books.write([call(books.day(ago=2), 1)])
    with books.connect() as other, other.transaction():
        other.execute(f"SELECT pg_advisory_xact_lock({REFRESH_LOCK})")
        report = books.ledger.maintenance.run()

    (problem,) = report.problems
    assert "not rolled up" in problem
    assert report.groups_waiting is None
    assert books.overview() == sums(books.written)
    assert books.ledger.maintenance.run().problems == ()


def test_errors_are_the_ledgers_own(books: Books) -> None:
    books.sql("DROP FUNCTION ledger.raw_from() CASCADE")
    with pytest.raises(LedgerError):
        books.ledger.maintenance.run()
