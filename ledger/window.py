"""Time as the ledger asks about it: half-open windows, the named intervals, time zones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ledger.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(moment: datetime, name: str = "timestamp") -> datetime:
    """The same moment in UTC, cut to the millisecond as the database stores it.

    Raises InvalidArgument for a naive datetime, and for what is none.
    """
    if not isinstance(moment, datetime):
        raise InvalidArgument(f"{name} {moment!r} is not a datetime")
    if moment.tzinfo is UTC and not moment.microsecond % 1000:
        return moment  # as most are: a read cuts ten
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidArgument(
            f"{name} {moment.isoformat()} has no time zone; pass an aware datetime, for example"
            " datetime.now(UTC)"
        )
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def floor(moment: datetime, grain: timedelta) -> datetime:
    """The last multiple of ``grain`` since the epoch (UTC) that is not after ``moment``."""
    return moment - (moment - _EPOCH) % grain


def ceil(moment: datetime, grain: timedelta) -> datetime:
    """The first multiple of ``grain`` since the epoch (UTC) that is not before ``moment``."""
    return moment + (_EPOCH - moment) % grain


def zone(name: str) -> ZoneInfo:
    """The IANA time zone of that name. Raises InvalidArgument where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidArgument(
            f"{name!r} is not a time zone; use an IANA name such as 'Europe/Berlin'"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The time from ``start`` up to, not including, ``end``; both aware, kept in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", utc(self.start, "start"))
        object.__setattr__(self, "end", utc(self.end, "end"))
        if self.start > self.end:
            raise InvalidArgument(
                f"the window starts at {self.start.isoformat()}, after its end"
                f" {self.end.isoformat()}; swap them"
            )

    @property
    def length(self) -> timedelta:
        """How long the window is."""
        return self.end - self.start

    def widened(self, grain: timedelta) -> Window:
        """The smallest window of whole ``grain`` that contains this one."""
        return Window(start=floor(self.start, grain), end=ceil(self.end, grain))

    def buckets(self, width: timedelta) -> Iterator[datetime]:
        """The starts of the buckets (multiples of ``width`` since the epoch) it touches."""
        bucket = floor(self.start, width)
        while bucket < self.end:
            yield bucket
            bucket += width

    def midnights(self, timezone: ZoneInfo) -> Iterator[datetime]:
        """The moments (UTC) inside the window at which a day of ``timezone`` begins."""
        day = self.start.astimezone(timezone).date()
        while True:
            day += timedelta(days=1)
            midnight = first_moment(day, timezone)
            if midnight >= self.end:
                return
            if midnight > self.start:
                yield midnight


def require_window(asked: object) -> Window:
    """What was asked for, which is a Window. Raises InvalidArgument for anything else."""
    if not isinstance(asked, Window):
        raise InvalidArgument(f"{asked!r} is not a Window; say from where to where")
    return asked


def first_moment(day: date, timezone: ZoneInfo) -> datetime:
    """When (UTC) the day begins in that time zone.

    Where the clocks skip midnight, ``fold=0`` reads it by the offset before the gap, which is
    the moment of the change.
    """
    return datetime.combine(day, time.min, timezone).astimezone(UTC)


class Interval(StrEnum):
    """The named windows of a dashboard: [at - length, at), not aligned to anything."""

    QUARTER_HOUR = "15M"
    HOUR = "1H"
    DAY = "1D"
    WEEK = "7D"

    @property
    def length(self) -> timedelta:
        """How far back the interval reaches."""
        return _INTERVALS[self][0]

    @property
    def bucket(self) -> timedelta:
        """The width of its time series' buckets unless another is asked for."""
        return _INTERVALS[self][1]

    def window(self, at: datetime) -> Window:
        """The window that ends, without it, at ``at``."""
        end = utc(at, "at")
        return Window(start=end - self.length, end=end)


_INTERVALS = {
    Interval.QUARTER_HOUR: (timedelta(minutes=15), timedelta(minutes=1)),
    Interval.HOUR: (HOUR, timedelta(minutes=1)),
    Interval.DAY: (timedelta(days=1), HOUR),
    Interval.WEEK: (timedelta(days=7), timedelta(hours=6)),
}


def interval(name: str) -> Interval:
    """The interval of that name, in either case. Raises InvalidArgument for another."""
    try:
        return Interval(name.upper())
    except ValueError as error:
        raise InvalidArgument(
            f"{name!r} is not an interval; use one of {', '.join(Interval)}, or a Window"
        ) from error
