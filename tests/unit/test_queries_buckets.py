"""How wide the steps of a series are, and how many there may be."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from ledger.errors import InvalidArgument
from ledger.queries.buckets import MOST_BUCKETS, bucket_starts, bucket_width, days
from ledger.queries.errors import RawRowsGone, TooManyBuckets
from ledger.records.installation import Horizon
from ledger.window import HOUR, Interval, Window

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
HORIZON = Horizon(now=NOW, raw_from=NOW - 90 * DAY, watermark=NOW)


def window(length: timedelta, end: datetime = NOW) -> Window:
    return Window(start=end - length, end=end)


@pytest.mark.parametrize(
    "length, width",
    [
        (timedelta(hours=2), MINUTE),
        (timedelta(hours=3), 5 * MINUTE),
        (DAY, HOUR),
        (7 * DAY, 6 * HOUR),
        (60 * DAY, DAY),
    ],
)
def test_a_window_has_buckets_that_suit_its_length(length: timedelta, width: timedelta) -> None:
    asked = window(length)
    assert bucket_width(None, asked, asked, HORIZON) == width


@pytest.mark.parametrize("interval", list(Interval))
def test_a_named_interval_has_its_own_buckets(interval: Interval) -> None:
    assert bucket_width(None, interval, interval.window(NOW), HORIZON) == interval.bucket


def test_default_buckets_are_of_hours_where_no_raw_rows_are() -> None:
    old = Interval.HOUR.window(NOW - 100 * DAY)
    assert bucket_width(None, "1H", old, HORIZON) == HOUR


def test_finer_buckets_are_refused_where_no_raw_rows_are() -> None:
    old = window(HOUR, end=NOW - 100 * DAY)
    with pytest.raises(RawRowsGone, match=NOW.strftime("%Y-")) as refused:
        bucket_width(90 * MINUTE, old, old, HORIZON)
    assert refused.value.raw_from == HORIZON.raw_from
    assert bucket_width(2 * HOUR, old, old, HORIZON) == 2 * HOUR


@pytest.mark.parametrize("bucket", [timedelta(0), -HOUR, timedelta(microseconds=1500), 60])
def test_a_bucket_is_a_positive_number_of_milliseconds(bucket: timedelta) -> None:
    with pytest.raises(InvalidArgument, match="bucket"):
        bucket_width(bucket, "1H", window(HOUR), HORIZON)


def test_the_number_of_buckets_is_bounded() -> None:
    assert len(bucket_starts(window(MOST_BUCKETS * MINUTE), MINUTE)) == MOST_BUCKETS
    with pytest.raises(TooManyBuckets) as refused:
        bucket_starts(window((MOST_BUCKETS + 1) * MINUTE), MINUTE)
    assert refused.value.most == MOST_BUCKETS
    with pytest.raises(TooManyBuckets):
        days(window((MOST_BUCKETS + 1) * DAY), "UTC")


def test_an_empty_window_has_no_buckets() -> None:
    assert bucket_starts(window(timedelta(0), end=NOW + MINUTE), HOUR) == []


def test_the_calendar_ends() -> None:
    last = Window(
        start=datetime(9999, 12, 31, 20, tzinfo=UTC),
        end=datetime(9999, 12, 31, 23, 59, tzinfo=UTC),
    )
    with pytest.raises(InvalidArgument, match="calendar"):
        bucket_starts(last, HOUR)
    with pytest.raises(InvalidArgument, match="calendar"):
        days(last, "Asia/Kolkata")


def test_hours_are_cut_where_days_begin_within_them() -> None:
    touched = days(window(2 * DAY), "Asia/Kathmandu")
    assert touched.dates == (date(2026, 6, 13), date(2026, 6, 14), date(2026, 6, 15))
    assert [border.minute for border in touched.borders] == [0, 15, 15]
    assert touched.cut_hours == [border.replace(minute=0) for border in touched.borders[1:]]
    assert days(window(2 * DAY), "Europe/Berlin").cut_hours == []
