"""Which whole buckets of sums answer for a time, and what of it is left for the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import DateTime, bindparam
from sqlalchemy.dialects.postgresql import ARRAY

from ledger.window import ceil, floor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

_MOMENT: Final = DateTime(timezone=True)

FIRST, LAST = (bindparam(name, type_=_MOMENT) for name in ("first", "last"))
PERIODS, CUT, FROM, TO = (
    bindparam(name, type_=ARRAY(_MOMENT)) for name in ("periods", "cut", "from", "to")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """A time that is parted into periods, as whole buckets and the rest.

    A bucket that is parted by a period's border belongs to the rest: sums cannot tell.
    """

    periods: tuple[datetime, ...]
    """Where each begins, and where the last ends; the time is from the first to the last."""
    whole: tuple[datetime, datetime] | None
    """From where to where buckets are read; None where there is no whole one."""
    cut: tuple[datetime, ...]
    """Buckets in there that are not."""
    rest: tuple[tuple[datetime, datetime], ...]

    @property
    def parameters(self) -> dict[str, Any]:
        """What a statement of this cover binds."""
        first, last = self.whole or (None, None)
        return {
            "periods": list(self.periods),
            "first": first,
            "last": last,
            "cut": list(self.cut),
            "from": [begin for begin, _ in self.rest],
            "to": [end for _, end in self.rest],
        }


def cover(periods: Sequence[datetime], width: timedelta | None) -> Cover:
    """Whole buckets of ``width``, or of no width at all, that answer for these periods."""
    start, end = periods[0], periods[-1]
    if width is None or (first := ceil(start, width)) >= (last := floor(end, width)):
        return Cover(periods=tuple(periods), whole=None, cut=(), rest=((start, end),))
    parted = {floor(border, width) for border in periods if floor(border, width) != border}
    cut = tuple(sorted(bucket for bucket in parted if first <= bucket < last))
    pieces = [(start, first), *((bucket, bucket + width) for bucket in cut), (last, end)]
    return Cover(
        periods=tuple(periods),
        whole=(first, last),
        cut=cut,
        rest=tuple((begin, until) for begin, until in pieces if begin < until),
    )
