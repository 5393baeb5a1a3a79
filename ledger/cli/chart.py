"""A time series as bars of Unicode blocks, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.text import Text

Item = TypeVar("Item")

BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII_BLOCKS = " ..::||##"
"""For terminals that know no Unicode."""
EIGHTHS = 8

WHOLE_STYLE = "cyan"
PART_STYLE = "red"
SPLIT_STYLE = "red on cyan"
AXIS_COLUMNS = 7
WIDEST_BAR = 6
"""Columns; of few buckets a chart need not fill a wide screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """An amount, and a part of it that is drawn in another colour from the ground up."""

    amount: float
    part: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """What a chart is drawn on."""

    columns: int
    rows: int = 8
    has_colour: bool = True
    has_unicode: bool = True

    @property
    def plot_columns(self) -> int:
        """How many are left for bars."""
        return max(self.columns - AXIS_COLUMNS, 1)

    def bar_columns(self, bars: int) -> int:
        """How many each of so many bars takes."""
        return min(max(self.plot_columns // max(bars, 1), 1), WIDEST_BAR)

    @property
    def blocks(self) -> str:
        """From nothing to a full cell, in eighths."""
        return BLOCKS if self.has_unicode else ASCII_BLOCKS


def merged(items: Sequence[Item], most: int) -> list[Sequence[Item]]:
    """Runs of neighbours, equally many in each but for the last, so that there are ``most``."""
    size = max(-(-len(items) // max(most, 1)), 1)
    return [items[start : start + size] for start in range(0, len(items), size)]


def bar_chart(bars: Sequence[Bar], canvas: Canvas) -> list[Text]:
    """The lines of a chart, top first, its axis at the left.

    As many bars as the canvas has room for are drawn: merge them first. What is more than
    nothing is never drawn as nothing.
    """
    peak = max((bar.amount for bar in bars), default=0)
    width = canvas.bar_columns(len(bars))
    ticks = {0: compact(peak), canvas.rows // 2: compact(peak / 2)} if peak else {}
    axis, tick = ("│", "┤") if canvas.has_unicode else ("|", "|")
    lines = []
    for row in range(canvas.rows):
        label = f"{ticks.get(row, ''):>{AXIS_COLUMNS - 2}} {tick if row in ticks else axis}"
        line = Text(label, style="dim")
        for bar in bars[: canvas.plot_columns]:
            line.append_text(_cell(bar, peak, canvas.rows - 1 - row, canvas, width))
        lines.append(line)
    corner, ground = ("└", "─") if canvas.has_unicode else ("+", "-")
    lines.append(Text(f"{corner:>{AXIS_COLUMNS}}{ground * width * len(bars)}", style="dim"))
    return lines


def sparkline(amounts: Sequence[float | None], canvas: Canvas, *, style: str = WHOLE_STYLE) -> Text:
    """One line of blocks under a chart; a gap where there is no amount."""
    peak = max((amount for amount in amounts if amount is not None), default=0)
    width = canvas.bar_columns(len(amounts))
    levels = (_level(amount, peak, EIGHTHS) if amount else 0 for amount in amounts)
    return Text(
        " " * AXIS_COLUMNS + "".join(canvas.blocks[level] * width for level in levels),
        style=style,
    )


def labels(first: str, last: str, canvas: Canvas, bars: int) -> Text:
    """The line under a chart: what its ends are, or, where it is narrow, its beginning."""
    room = canvas.bar_columns(bars) * bars - len(first)
    return Text(" " * AXIS_COLUMNS + first + (f"{last:>{room}}" if room > len(last) else ""))


def compact(number: float) -> str:
    """A number in at most five signs: 7, 412, 1.24k, 35.1k, 2M."""
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # Half a unit of the last digit below, where three digits round up to four.
        if number >= unit * 0.9995:
            return f"{number / unit:.3g}{name}"
    return f"{number:.3g}" if number >= 1 or number == 0 else f"{number:.2f}"


def _cell(bar: Bar, peak: float, height: int, canvas: Canvas, width: int) -> Text:
    """One bar's cell at so many rows above the ground."""
    most = canvas.rows * EIGHTHS
    ground = height * EIGHTHS
    whole = min(max(_level(bar.amount, peak, most) - ground, 0), EIGHTHS)
    part = min(max(_level(bar.part, peak, most) - ground, 0), whole)
    if not canvas.has_colour or part == 0:
        return Text(canvas.blocks[whole] * width, style=WHOLE_STYLE)
    if part == whole or whole < EIGHTHS:
        # A cell has two colours and the upper edge of the bar takes one.
        return Text(canvas.blocks[whole] * width, style=PART_STYLE)
    return Text(canvas.blocks[part] * width, style=SPLIT_STYLE)


def _level(amount: float, peak: float, most: int) -> int:
    return max(round(amount / peak * most), 1) if amount > 0 else 0
