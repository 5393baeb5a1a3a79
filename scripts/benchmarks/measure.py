"""Times calls, and says what they are measured against."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the report: what was measured, against what, and what was promised."""

    name: str
    measured: str
    target: str
    holds: bool

    def row(self) -> str:
        """The figure as a row of a Markdown table."""
        return (
            f"| {self.name} | {self.measured} | {self.target} | {'yes' if self.holds else 'NO'} |"
        )


def interleaved(
    first: Callable[[], object], second: Callable[[], object], *, repeat: int = 41, warm: int = 6
) -> tuple[float, float]:
    """The medians of two calls taken in turn, in milliseconds, so that noise falls on both."""
    for _ in range(warm):
        first()
        second()
    pairs = [(_seconds(first), _seconds(second)) for _ in range(repeat)]
    return median(a for a, _ in pairs) * 1000, median(b for _, b in pairs) * 1000


def in_turns(
    first: Callable[[], object], second: Callable[[], object], *, turns: int = 3, calls: int = 9
) -> tuple[float, float]:
    """The medians of two calls in milliseconds, some of each in a row, and then of the other.

    For calls of which one takes a hundred times as long: alternating, it would have the other
    measured with what it left in the processor's caches.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for call, times in zip((first, second), taken, strict=True):
            for _ in range(2):
                call()
            times += [_seconds(call) for _ in range(calls)]
    return median(taken[0]) * 1000, median(taken[1]) * 1000


def seconds(call: Callable[[], object]) -> float:
    """The time of one call, in seconds."""
    return _seconds(call)


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
