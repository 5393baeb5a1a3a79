"""Which level answers for which part of a window.

Whole hours that were rolled up come from `llm_metrics_1h`, everything else from the raw rows:
both edges, the tail that is not rolled up yet, and hours that a day's border cuts. Short
windows come from the raw rows alone, which is faster there, and makes percentiles exact.
Edges older than the raw rows fall to the whole hour, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ledger.records.installation import Horizon
from ledger.window import HOUR, Window, ceil, floor

LONGEST_FROM_RAW: Final = timedelta(hours=2)
"""Up to here raw rows alone are the fastest: at an hour 0.3-1.0 ms against 0.7-5.1 (heavy and
light users, both storages), at a day 0.5-34 against 0.5-7.6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A window and the levels that answer for it, from its start to its end.

    Raw rows for [window.start, hours.start), hours from the rollup for ``hours`` without
    ``cut_hours``, raw rows for those and for [hours.end, window.end). Where ``hours`` is
    None, raw rows for all of it.
    """

    window: Window
    hours: Window | None
    cut_hours: tuple[datetime, ...] = ()
    is_exact: bool = True
    """False where an edge, or a day's border, fell to the rollup's grain."""

    @property
    def has_head(self) -> bool:
        """Whether the window begins within an hour."""
        return self.hours is not None and self.window.start < self.hours.start

    @property
    def has_tail(self) -> bool:
        """Whether the window goes on where the rolled up hours end."""
        return self.hours is not None and self.hours.end < self.window.end

    @property
    def reads_raw_since(self) -> datetime:
        """The earliest moment whose raw rows are read."""
        if self.hours is None or self.has_head:
            return self.window.start
        return min((*self.cut_hours, self.hours.end))


def route(asked: Window, horizon: Horizon, *, cut_hours: Collection[datetime] = ()) -> Route:
    """How to answer for a window: exactly wherever the raw rows for it are kept.

    ``cut_hours`` are hours that belong to two groups at once.
    """
    watermark, raw_from = horizon.watermark, horizon.raw_from
    is_raw_kept = raw_from is None or asked.start >= raw_from
    if (
        watermark is None
        or (is_raw_kept and asked.length <= LONGEST_FROM_RAW)
        or asked.length == timedelta(0)
    ):
        return Route(window=asked, hours=None)

    def is_gone(moment: datetime) -> bool:
        hour = floor(moment, HOUR)
        return raw_from is not None and hour < moment < raw_from and hour < watermark

    window = asked
    if is_gone(asked.start) or is_gone(asked.end):
        window = Window(
            start=floor(asked.start, HOUR) if is_gone(asked.start) else asked.start,
            end=ceil(asked.end, HOUR) if is_gone(asked.end) else asked.end,
        )
    first, last = ceil(window.start, HOUR), min(floor(window.end, HOUR), watermark)
    if first >= last:
        return Route(window=window, hours=None)
    cut = [hour for hour in cut_hours if first <= hour < last]
    readable = tuple(hour for hour in cut if raw_from is None or hour >= raw_from)
    return Route(
        window=window,
        hours=Window(start=first, end=last),
        cut_hours=readable,
        is_exact=window == asked and len(readable) == len(cut),
    )
