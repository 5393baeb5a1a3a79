"""Which level answers for which part of a window, on its edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ledger.queries.route import LONGEST_FROM_RAW, Route, route
from ledger.records.installation import Horizon
from ledger.window import HOUR, Window, ceil, floor

NOW = datetime(2026, 6, 15, 12, 34, 56, tzinfo=UTC)
WATERMARK = floor(NOW, HOUR)
RAW_FROM = floor(NOW, HOUR) - timedelta(days=90)
MILLISECOND = timedelta(milliseconds=1)
HORIZON = Horizon(now=NOW, raw_from=RAW_FROM, watermark=WATERMARK)


def at(start: datetime, end: datetime, horizon: Horizon = HORIZON) -> Route:
    return route(Window(start=start, end=end), horizon)


def test_two_hours_come_from_raw_rows_alone_and_a_moment_more_does_not() -> None:
    end = WATERMARK - HOUR
    assert at(end - LONGEST_FROM_RAW, end).hours is None
    longer = at(end - LONGEST_FROM_RAW - MILLISECOND, end)
    assert longer.hours == Window(start=end - LONGEST_FROM_RAW, end=end)


def test_nothing_comes_from_rollups_before_the_first_refresh() -> None:
    fresh = Horizon(now=NOW, raw_from=RAW_FROM, watermark=None)
    assert at(NOW - timedelta(days=365), NOW, fresh).hours is None


def test_a_window_above_the_watermark_comes_from_raw_rows() -> None:
    assert at(WATERMARK, WATERMARK + timedelta(hours=5)).hours is None
    assert at(WATERMARK - HOUR + MILLISECOND, WATERMARK + timedelta(hours=5)).hours is None
    whole_hour = at(WATERMARK - HOUR, WATERMARK + timedelta(hours=5))
    assert whole_hour.hours == Window(start=WATERMARK - HOUR, end=WATERMARK)
    assert (whole_hour.has_head, whole_hour.has_tail) == (False, True)


def test_whole_hours_need_no_raw_rows() -> None:
    found = at(WATERMARK - timedelta(days=7), WATERMARK)
    assert (found.has_head, found.has_tail, found.is_exact) == (False, False, True)


def test_both_edges_and_the_tail_come_from_raw_rows() -> None:
    found = at(NOW - timedelta(days=7), NOW)
    assert found.hours == Window(start=ceil(NOW, HOUR) - timedelta(days=7), end=WATERMARK)
    assert (found.has_head, found.has_tail) == (True, True)
    assert found.reads_raw_since == NOW - timedelta(days=7)


def test_an_edge_is_exact_down_to_where_raw_rows_begin() -> None:
    assert at(RAW_FROM, NOW).is_exact
    assert at(RAW_FROM + MILLISECOND, NOW).is_exact
    before = at(RAW_FROM - MILLISECOND, NOW)
    assert not before.is_exact
    assert before.window == Window(start=RAW_FROM - HOUR, end=NOW)


def test_whole_hours_older_than_the_raw_rows_are_exact() -> None:
    found = at(RAW_FROM - 5 * HOUR, RAW_FROM - HOUR)
    assert found.is_exact
    assert found.hours == found.window


def test_a_short_window_older_than_the_raw_rows_comes_from_rollups() -> None:
    start = RAW_FROM - timedelta(days=1, minutes=-10)
    found = at(start, start + timedelta(minutes=15))
    assert not found.is_exact
    assert found.window == Window(start=floor(start, HOUR), end=floor(start, HOUR) + HOUR)
    assert found.hours == found.window


def test_an_empty_window_stays_empty() -> None:
    moment = RAW_FROM - timedelta(days=1, minutes=10)
    assert at(moment, moment) == Route(window=Window(start=moment, end=moment), hours=None)


def test_hours_that_a_day_cuts_are_read_raw_where_raw_rows_are_kept() -> None:
    window = Window(start=RAW_FROM - timedelta(days=2), end=WATERMARK)
    kept, gone = RAW_FROM + timedelta(days=3), RAW_FROM - timedelta(days=1)
    found = route(window, HORIZON, cut_hours=[gone, kept])
    assert (found.cut_hours, found.is_exact) == ((kept,), False)
    outside = route(window, HORIZON, cut_hours=[window.start - HOUR, window.end])
    assert (outside.cut_hours, outside.is_exact) == ((), True)


def test_a_window_may_reach_from_one_end_of_the_calendar_to_the_other() -> None:
    found = at(datetime(1, 1, 1, 0, 30, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert found.window.start == datetime(1, 1, 1, tzinfo=UTC)
    assert found.hours == Window(start=found.window.start, end=WATERMARK)


@given(
    hours_ago=st.tuples(*[st.integers(-3, 24 * 100)] * 3),
    edges=st.tuples(*[st.timedeltas(timedelta(days=-1), timedelta(days=100))] * 2),
)
def test_every_moment_is_answered_for_once(
    hours_ago: tuple[int, int, int], edges: tuple[timedelta, timedelta]
) -> None:
    raw_from, watermark = (
        floor(NOW, HOUR) - HOUR * ago for ago in sorted(hours_ago[:2], reverse=True)
    )
    horizon = Horizon(now=NOW, raw_from=raw_from, watermark=watermark)
    start, end = sorted(NOW - edge for edge in edges)
    asked = Window(start=start, end=end)
    found = route(asked, horizon)
    assert found.window.start <= asked.start
    assert asked.end <= found.window.end
    assert found.is_exact == (found.window == asked)
    if found.hours is None:
        assert (
            asked.start >= raw_from
            or asked.end <= asked.start
            or raw_from > watermark
            or (asked.start >= watermark - HOUR)
        )
        return
    assert found.window.start <= found.hours.start < found.hours.end <= found.window.end
    assert found.hours.end <= watermark
    assert found.hours == found.hours.widened(HOUR)
    if found.has_head:
        assert found.window.start >= raw_from
    if found.has_tail:
        assert found.hours.end >= raw_from or found.hours.end == watermark
