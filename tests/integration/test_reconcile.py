"""Reconciling finds every difference between the rollups and the raw rows, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from ledger import InvalidArgument, Storage, Window
from ledger.maintenance import Difference
from ledger.models.telemetry import HOUR_ROLLUP, MEASURES, MINUTE_ROLLUP, materialized
from ledger.window import HOUR, floor
from tests.books import OTHER_USER, ROLLUPS, USER, Books, call, calls, opened
from tests.databases import Target

in_each_encoding = pytest.mark.every_target

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def books(database_url: str, target: Target) -> Iterator[Books]:
    with opened(database_url, target) as books:
        yield books


def stored(books: Books, level: str) -> str:
    """The table that holds what was rolled up, to be falsified as no program of ours would."""
    if not books.is_timescale:
        return f"ledger.{materialized(level, Storage.POSTGRES)}"
    ((name,),) = books.sql(
        "SELECT format('%I.%I', materialization_hypertable_schema,"
        " materialization_hypertable_name) FROM timescaledb_information.continuous_aggregates"
        f" WHERE view_name = '{level}'"
    )
    return str(name)


def differing(books: Books) -> list[tuple[str, datetime, str, Any, Any]]:
    found = books.ledger.maintenance.reconcile(books.everything())
    return [
        (difference.level, difference.bucket, difference.measure, difference.raw, difference.rollup)
        for difference in found.differences
    ]


def test_books_that_nobody_touched_have_no_difference(books: Books) -> None:
    books.write(calls(books.day(ago=9), 900, over=8 * DAY))
    books.ledger.maintenance.run()

    found = books.ledger.maintenance.reconcile(books.everything())

    assert (found.is_clean, found.differences, found.requests) == (True, (), 900)
    assert found.compared is not None
    assert found.compared.end == books.last_closed_hour + HOUR
    assert found.hours_compared == found.compared.length // HOUR


@pytest.mark.parametrize("level", ROLLUPS)
def test_each_sum_that_is_off_by_one_is_found(books: Books, level: str) -> None:
    sums = [measure for measure in MEASURES if measure != "cost_usd"]
    first = books.last_closed_hour - len(sums) * HOUR
    hours = {first + number * HOUR: measure for number, measure in enumerate(sums)}
    books.write(call(hour, number) for hour in hours for number in (1, 7))
    books.ledger.maintenance.run()
    for hour, measure in hours.items():
        books.sql(
            f"UPDATE {stored(books, level)} SET {measure} = {measure} + 1 WHERE bucket = '{hour}'"
        )

    found = differing(books)

    assert [(level, hour, measure) for level, hour, measure, _, _ in found] == [
        (level, hour, measure) for hour, measure in hours.items()
    ]
    assert all(rollup - raw == 1 for *_, raw, rollup in found)


@pytest.mark.parametrize("level", ROLLUPS)
def test_the_last_digit_of_money_is_compared(books: Books, level: str) -> None:
    hour = books.last_closed_hour - 5 * HOUR
    books.write([call(hour, 1, cost_usd=Decimal("12.345678901234"))])
    books.ledger.maintenance.run()
    books.sql(f"UPDATE {stored(books, level)} SET cost_usd = cost_usd + 0.000000000001")

    assert differing(books) == [
        (level, hour, "cost_usd", Decimal("12.345678901234"), Decimal("12.345678901235"))
    ]


@in_each_encoding
@pytest.mark.parametrize("level", ROLLUPS)
def test_a_sketch_that_lost_a_latency_is_found(books: Books, level: str) -> None:
    hour = books.last_closed_hour - 5 * HOUR
    books.write([call(hour, 1), call(hour, 7)])
    books.ledger.maintenance.run()
    other = (
        "uddsketch(256, 0.0265, 100::double precision)"
        if books.target.percentiles == "uddsketch"
        else "ARRAY[1]"
    )
    books.sql(f"UPDATE {stored(books, level)} SET latency_sketch = (SELECT {other})")

    assert differing(books) == [(level, hour, "latency_sketch", 2, 1)]


def sketch_of(books: Books, *latencies_ms: int) -> str:
    """SQL of a sketch of these latencies."""
    values = f"unnest(ARRAY[{', '.join(map(str, latencies_ms))}]) AS ms"
    if books.target.percentiles == "uddsketch":
        return f"(SELECT uddsketch(256, 0.0265, ms::double precision) FROM {values})"
    return f"(SELECT ledger.latency_histogram(ledger.latency_bin(ms)) FROM {values})"


@in_each_encoding
@pytest.mark.parametrize("level", ROLLUPS)
@pytest.mark.parametrize(
    "others", [(100, 300, 600), (100, 200, 600)], ids=["another sum", "the same sum"]
)
def test_a_sketch_of_as_many_other_latencies_is_found(
    books: Books, level: str, others: tuple[int, ...]
) -> None:
    hour = books.last_closed_hour - 5 * HOUR
    books.write(
        call(hour, number, user_id=USER, model="gpt-1", latency_ms=latency)
        for number, latency in enumerate((100, 300, 500))
    )
    books.ledger.maintenance.run()
    books.sql(f"UPDATE {stored(books, level)} SET latency_sketch = {sketch_of(books, *others)}")

    (difference,) = books.ledger.maintenance.reconcile(books.everything()).differences

    assert (difference.level, difference.measure) == (level, "latency_sketch")
    assert (difference.raw, difference.rollup) == (3, 3)
    assert "latency_sketch counts 3 latencies on either side, but not the same" in str(difference)


@in_each_encoding
@pytest.mark.parametrize("level", ROLLUPS)
def test_the_same_latencies_in_an_array_of_another_width_are_no_difference(
    books: Books, level: str
) -> None:
    if books.target.percentiles == "uddsketch":
        pytest.skip("a sketch has one form")
    hour = books.last_closed_hour - 5 * HOUR
    books.write([call(hour, 1, latency_ms=100), call(hour, 7, latency_ms=9_000)])
    books.ledger.maintenance.run()
    books.sql(
        f"UPDATE {stored(books, level)} SET latency_sketch = ARRAY(SELECT"
        " coalesce(latency_sketch[bin], 0) FROM generate_series(1, 200) AS bin)"
    )

    assert differing(books) == []


@pytest.mark.parametrize("level", ROLLUPS)
def test_a_missing_group_is_found_at_its_level(books: Books, level: str) -> None:
    hour = books.last_closed_hour - 30 * HOUR
    books.write([call(hour, 1), call(hour + MINUTE, 2), call(hour + 2 * HOUR, 3)])
    books.ledger.maintenance.run()
    books.sql(f"DELETE FROM {stored(books, level)} WHERE model = 'gpt-0'")

    bucket = hour + MINUTE if level == MINUTE_ROLLUP else hour
    assert differing(books) == [(level, bucket, "requests", 1, None)]


@pytest.mark.parametrize("level", ROLLUPS)
def test_a_surplus_group_is_found_at_its_level(books: Books, level: str) -> None:
    hour = books.last_closed_hour - 30 * HOUR
    # The later row has TimescaleDB read the hour between from what is materialised.
    books.write([call(hour, 1), call(hour + 3 * HOUR, 7)])
    books.ledger.maintenance.run()
    books.sql(
        f"UPDATE {stored(books, level)} SET bucket = bucket + interval '1 hour'"
        f" WHERE bucket = '{hour}'"
    )

    assert differing(books) == [
        (level, hour, "requests", 1, None),
        (level, hour + HOUR, "requests", None, 1),
    ]


@pytest.mark.storage("timescale")
def test_a_row_that_awaits_the_next_refresh_is_a_difference_that_says_so(books: Books) -> None:
    hour = books.last_closed_hour - 50 * HOUR
    books.write([call(hour, 1), call(hour + 3 * HOUR, 7)])
    books.ledger.maintenance.run()
    books.write([call(hour, 5)])
    books.sql(
        f"UPDATE {stored(books, HOUR_ROLLUP)} SET errors = 7 WHERE bucket = '{hour + 3 * HOUR}'"
    )

    found = books.ledger.maintenance.reconcile(books.everything())

    awaiting = [difference for difference in found.differences if difference.awaits_refresh]
    assert {difference.bucket for difference in awaiting} == {hour}
    assert all("next refresh" in str(difference) for difference in awaiting)
    (other,) = set(found.differences) - set(awaiting)
    assert (other.bucket, other.measure) == (hour + 3 * HOUR, "errors")

    books.ledger.maintenance.run()
    assert books.ledger.maintenance.reconcile(books.everything()).differences == (other,)


@in_each_encoding
@pytest.mark.storage("timescale")
def test_raw_rows_that_somebody_deleted_are_missed(books: Books) -> None:
    hour = books.last_closed_hour - 50 * HOUR
    books.write([call(hour, 1), call(hour, 7)])
    books.ledger.maintenance.run()
    books.sql("DELETE FROM ledger.llm_requests WHERE input_tokens = 7")

    measures = {(level, measure) for level, _, measure, _, _ in differing(books)}

    expected = {"requests", "input_tokens", "cost_usd", "latency_sum_ms", "latency_sketch"}
    assert measures == {(level, measure) for level in ROLLUPS for measure in expected}


@pytest.mark.storage("postgres")
def test_what_reads_take_from_raw_rows_cannot_differ_and_is_counted(books: Books) -> None:
    hour = books.last_closed_hour - 50 * HOUR
    books.write([call(hour, 1), call(hour, 3)])
    books.ledger.maintenance.run()
    books.write([call(hour, 5)])

    found = books.ledger.maintenance.reconcile(books.everything())

    assert (found.differences, found.groups_left_out, found.requests) == ((), 1, 1)
    books.ledger.maintenance.run()
    found = books.ledger.maintenance.reconcile(books.everything())
    assert (found.differences, found.groups_left_out, found.requests) == ((), 0, 3)


def test_one_user_is_compared_alone(books: Books) -> None:
    hour = books.last_closed_hour - 5 * HOUR
    books.write([call(hour, 1, user_id=USER), call(hour, 3, user_id=OTHER_USER)])
    books.ledger.maintenance.run()
    books.sql(f"UPDATE {stored(books, HOUR_ROLLUP)} SET errors = 7 WHERE user_id = '{USER}'")

    of_user = books.ledger.maintenance.reconcile(books.everything(), USER)
    of_other = books.ledger.maintenance.reconcile(books.everything(), str(OTHER_USER))

    assert of_user.differences == (
        Difference(
            level=HOUR_ROLLUP, bucket=hour, user_id=USER, provider="openai", model="gpt-1",
            measure="errors", raw=0, rollup=7,
        ),
    )  # fmt: skip
    assert (of_other.is_clean, of_other.requests) == (True, 1)
    with pytest.raises(InvalidArgument):
        books.ledger.maintenance.reconcile(books.everything(), "nobody")


def test_what_could_not_be_compared_is_said(books: Books) -> None:
    books.write([call(books.now - timedelta(seconds=1), 1), call(books.day(ago=6), 2)])
    before = books.ledger.maintenance.reconcile(books.everything())
    assert (before.compared, before.hours_compared, before.is_complete) == (None, 0, False)
    books.ledger.maintenance.run()
    books.keep("raw", 4 * DAY)

    everything = books.ledger.maintenance.reconcile(books.everything())
    closed = books.ledger.maintenance.reconcile(
        Window(start=books.last_closed_hour - HOUR + MINUTE, end=books.last_closed_hour + HOUR)
    )

    assert everything.compared is not None
    assert everything.compared.start == floor(books.now - 4 * DAY, HOUR) + HOUR
    assert everything.compared.end == books.last_closed_hour + HOUR
    assert not everything.is_complete
    assert (closed.is_complete, closed.hours_compared) == (True, 2)


def test_differences_come_in_order_and_only_the_first_are_kept(books: Books) -> None:
    start = books.day(ago=3)
    books.write(calls(start, 1_100, over=DAY))
    books.ledger.maintenance.run()
    books.sql(f"UPDATE {stored(books, MINUTE_ROLLUP)} SET errors = errors + 1")

    found = books.ledger.maintenance.reconcile(books.everything())

    assert (len(found.differences), found.differences_found) == (1_000, 1_100)
    buckets = [difference.bucket for difference in found.differences]
    assert buckets == sorted(buckets)


def test_progress_is_told_part_by_part(books: Books) -> None:
    books.write(calls(books.day(ago=3), 10, over=DAY))
    books.ledger.maintenance.run()
    told: list[datetime] = []

    found = books.ledger.maintenance.reconcile(
        Window(start=books.day(ago=3), end=books.day(ago=0)),
        on_progress=lambda moment, _: told.append(moment),
    )

    assert told == [books.day(ago=ago) for ago in (2, 1, 0)]
    assert found.requests == 10
