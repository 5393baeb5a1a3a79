"""Which whole days and hours of sums answer for a time, and what of it is left for the rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from ledger.window import ceil, floor

Piece: TypeAlias = "tuple[datetime, datetime]"
Pieces: TypeAlias = "tuple[Piece, ...]"
"""Times, each from its begin to its end, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """A time that is parted into periods, as whole buckets of some widths, and the rest.

    A bucket that is parted by a period's border is left to the finer ones: sums cannot tell.
    """

    periods: tuple[datetime, ...]
    """Where each begins, and where the last ends; the time is from the first to the last."""
    buckets: tuple[Pieces, ...]
    """By width, the widest first, where whole buckets are read."""
    rest: Pieces
    """Where rows are read."""

    @property
    def whole(self) -> Pieces:
        """Where whole buckets are read, of whichever width."""
        return tuple(_merged(sorted(piece for pieces in self.buckets for piece in pieces)))

    @property
    def parameters(self) -> dict[str, Any]:
        """What a statement of this cover binds: the periods, and each level's pieces."""
        bound: dict[str, Any] = {"periods": list(self.periods)}
        levels = {f"level_{place}": pieces for place, pieces in enumerate(self.buckets)}
        for name, pieces in {**levels, "whole": self.whole, "rest": self.rest}.items():
            bound[f"{name}_from"] = [begin for begin, _ in pieces]
            bound[f"{name}_to"] = [end for _, end in pieces]
        return bound


def cover(periods: Sequence[datetime], widths: Iterable[timedelta]) -> Cover:
    """The coarsest buckets of these widths, the widest first, that answer for the periods."""
    left: Pieces = ((periods[0], periods[-1]),)
    buckets: list[Pieces] = []
    for width in widths:
        whole: list[Piece] = []
        rest: list[Piece] = []
        for begin, end in left:
            for piece, is_whole in _parted(begin, end, width, periods):
                (whole if is_whole else rest).append(piece)
        buckets.append(tuple(whole))
        left = tuple(rest)
    return Cover(periods=tuple(periods), buckets=tuple(buckets), rest=left)


def _parted(
    begin: datetime, end: datetime, width: timedelta, borders: Collection[datetime]
) -> Iterator[tuple[Piece, bool]]:
    """The time as runs of whole buckets that no border parts, and what is between them."""
    first, last = ceil(begin, width), floor(end, width)
    if first >= last:
        yield (begin, end), False
        return
    parted = sorted({floor(border, width) for border in borders if floor(border, width) != border})
    if begin < first:
        yield (begin, first), False
    for bucket in parted:
        if first <= bucket < last:
            if first < bucket:
                yield (first, bucket), True
            first = bucket + width
            yield (bucket, first), False
    if first < last:
        yield (first, last), True
    if last < end:
        yield (last, end), False


def _merged(pieces: Iterable[Piece]) -> Iterator[Piece]:
    held: Piece | None = None
    for begin, end in pieces:
        if held is not None and held[1] == begin:
            held = (held[0], end)
            continue
        if held is not None:
            yield held
        held = (begin, end)
    if held is not None:
        yield held
