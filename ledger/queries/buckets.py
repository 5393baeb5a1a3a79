"""The steps of a time series: their width, and the days of a time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final

from ledger.errors import InvalidArgument
from ledger.queries.errors import RawRowsGone, TooManyBuckets
from ledger.queries.route import Route, route
from ledger.records.installation import Horizon
from ledger.window import HOUR, Interval, Window, ceil, floor, interval, zone

MOST_BUCKETS: Final = 20_000
"""A week by the minute, a year by the half-hour, two by the hour."""

_MILLISECOND: Final = timedelta(milliseconds=1)
_WIDTHS: Final = (
    (timedelta(hours=2), timedelta(minutes=1)),
    (timedelta(hours=12), timedelta(minutes=5)),
    (timedelta(days=3), HOUR),
    (timedelta(days=14), timedelta(hours=6)),
)
"""The longest window, and the buckets it has unless others are asked for; longer ones, days."""


def bucket_width(
    bucket: timedelta | None, asked: Interval | str | Window, window: Window, horizon: Horizon
) -> timedelta:
    """The width asked for, else one that suits the window and what is kept of it.

    Raises InvalidArgument, TooManyBuckets, and RawRowsGone where buckets finer than an hour
    are asked for of a time whose raw rows may be gone.
    """
    is_raw_gone = horizon.raw_from is not None and window.start < horizon.raw_from
    if bucket is None:
        width = _default_width(asked, window)
        return max(width, HOUR) if is_raw_gone else width
    _require_milliseconds(bucket)
    if horizon.raw_from is not None and is_raw_gone and bucket % HOUR:
        raise RawRowsGone(bucket, window.start, horizon.raw_from)
    return bucket


def series_route(window: Window, width: timedelta, horizon: Horizon) -> Route:
    """How to answer for buckets: of whole hours from the rollup, of others from raw rows."""
    if width % HOUR:
        return Route(window=window, hours=None)
    return route(window, horizon)


def bucket_starts(window: Window, width: timedelta) -> list[datetime]:
    """The starts of the buckets that a window touches. Raises TooManyBuckets."""
    if not window.length:
        return []
    try:
        count = (ceil(window.end, width) - floor(window.start, width)) // width
    except OverflowError as error:
        raise InvalidArgument("the window reaches to the end of the calendar") from error
    if count > MOST_BUCKETS:
        raise TooManyBuckets(count, MOST_BUCKETS, "ask for wider ones, or for a shorter window")
    return list(window.buckets(width))


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """The days of a time zone that a window touches, by the moments at which they begin."""

    borders: tuple[datetime, ...]
    """Where the window and each further day begin, in UTC; the first is a whole hour."""
    dates: tuple[date, ...]

    @property
    def cut_hours(self) -> list[datetime]:
        """The hours (UTC) in which one day ends and another begins."""
        hours = (floor(border, HOUR) for border in self.borders)
        return [hour for hour, border in zip(hours, self.borders, strict=True) if hour != border]


def days(window: Window, timezone: str) -> Days:
    """The days of the IANA zone ``timezone`` in a window. Raises InvalidArgument.

    The borders are found here and not by PostgreSQL, whose time zones may be of another year.
    """
    require_few_days(window)
    try:
        # An edge may fall to the whole hour, and then a day may begin before it.
        return _days(window.widened(HOUR), timezone)
    except OverflowError as error:
        raise InvalidArgument("the window reaches to the end of the calendar") from error


def require_few_days(window: Window) -> None:
    """Raise TooManyBuckets for a window that nobody reads day by day."""
    if window.length > timedelta(days=MOST_BUCKETS):
        raise TooManyBuckets(window.length.days, MOST_BUCKETS, "ask for a shorter window")


@lru_cache(maxsize=256)
def _days(window: Window, timezone: str) -> Days:
    """Remembered, as whole hours stay the same for an hour: 2 us instead of 40 for a week."""
    named = zone(timezone)
    borders = [window.start, *window.midnights(named)]
    return Days(
        borders=tuple(border.astimezone(UTC) for border in borders),
        dates=tuple(border.astimezone(named).date() for border in borders),
    )


def _require_milliseconds(bucket: object) -> None:
    if not isinstance(bucket, timedelta) or bucket < _MILLISECOND or bucket % _MILLISECOND:
        raise InvalidArgument(f"bucket {bucket!r} is not a positive timedelta of milliseconds")


def _default_width(asked: Interval | str | Window, window: Window) -> timedelta:
    if not isinstance(asked, Window):
        return interval(asked).bucket
    return next(
        (width for longest, width in _WIDTHS if window.length <= longest), timedelta(days=1)
    )
