"""Windows, intervals, grains, and the days of time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidArgument
from ledger.window import HOUR, Interval, Window, ceil, first_moment, floor, interval, utc, zone

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)

moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
grains = st.sampled_from([timedelta(minutes=7), HOUR, timedelta(hours=6), timedelta(days=1)])


def test_a_naive_datetime_is_an_error_that_names_it() -> None:
    with pytest.raises(InvalidArgument, match=r"at 2026-01-01T00:00:00 has no time zone"):
        utc(datetime(2026, 1, 1), "at")  # noqa: DTZ001 - naive is the point


def test_moments_are_cut_to_the_millisecond_in_utc() -> None:
    local = datetime(2026, 1, 1, 5, 30, 0, 123_999, tzinfo=timezone(timedelta(hours=5.5)))
    assert utc(local) == datetime(2026, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)
    assert utc(local).tzinfo is UTC


@given(moments, grains)
def test_floor_and_ceil_are_the_nearest_multiples_since_the_epoch(
    moment: datetime, grain: timedelta
) -> None:
    low, high = floor(moment, grain), ceil(moment, grain)
    assert low <= moment <= high
    assert high - low in (timedelta(0), grain)
    assert (low - datetime(1970, 1, 1, tzinfo=UTC)) % grain == timedelta(0)


@given(moments, st.timedeltas(timedelta(0), timedelta(days=3)), grains)
def test_buckets_cover_a_window_and_no_more(
    start: datetime, length: timedelta, grain: timedelta
) -> None:
    window = Window(start=start, end=start + length)
    starts = list(window.buckets(grain))
    assert starts == sorted(set(starts))
    if length >= timedelta(milliseconds=1):
        assert starts[0] <= window.start < starts[0] + grain
        assert starts[-1] < window.end <= starts[-1] + grain


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="swap them"):
        Window(start=NOON, end=NOON - HOUR)


@pytest.mark.parametrize(
    "name, length", [("15m", timedelta(minutes=15)), ("1H", HOUR), ("7D", timedelta(days=7))]
)
def test_an_interval_is_the_time_before_a_moment(name: str, length: timedelta) -> None:
    assert interval(name).window(NOON) == Window(start=NOON - length, end=NOON)


def test_an_unknown_interval_names_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="15M, 1H, 1D, 7D"):
        interval("1Y")


def test_default_buckets_are_a_minute_an_hour_and_six() -> None:
    minute = timedelta(minutes=1)
    assert [each.bucket for each in Interval] == [minute, minute, HOUR, 6 * HOUR]


@pytest.mark.parametrize("name", ["", "Nowhere/Land", "../etc/passwd", "Europe", "\0"])
def test_what_is_not_a_time_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="IANA"):
        zone(name)


@pytest.mark.parametrize(
    "timezone, day, expected",
    [
        ("UTC", "2026-03-29", "2026-03-29T00:00:00+00:00"),
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00+00:00"),
        ("Europe/Berlin", "2026-03-30", "2026-03-29T22:00:00+00:00"),
        ("Asia/Kolkata", "2026-03-29", "2026-03-28T18:30:00+00:00"),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00:00+00:00"),
        ("Australia/Lord_Howe", "2026-04-06", "2026-04-05T13:30:00+00:00"),
        # Havana's clocks go from midnight to one, and in autumn from one back to midnight.
        ("America/Havana", "2026-03-08", "2026-03-08T05:00:00+00:00"),
        ("America/Havana", "2026-11-01", "2026-11-01T04:00:00+00:00"),
    ],
)
def test_a_day_begins_at_its_first_moment(timezone: str, day: str, expected: str) -> None:
    midnight = datetime.fromisoformat(day)
    assert first_moment(midnight, ZoneInfo(timezone)) == datetime.fromisoformat(expected)


@given(
    moments,
    st.timedeltas(timedelta(0), timedelta(days=40)),
    st.sampled_from(
        ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana"]
    ),
)
def test_the_date_changes_at_midnights_and_nowhere_else(
    start: datetime, length: timedelta, timezone: str
) -> None:
    named = ZoneInfo(timezone)
    window = Window(start=start, end=start + length)
    midnights = list(window.midnights(named))
    assert midnights == sorted(set(midnights))
    for midnight in midnights:
        assert window.start < midnight < window.end
        before = (midnight - timedelta(milliseconds=1)).astimezone(named).date()
        assert before < midnight.astimezone(named).date()
    days = {moment.astimezone(named).date() for moment in window.buckets(HOUR / 4)}
    assert len(midnights) <= len(days)
