"""Where the command writes: results to stdout; progress, hints and errors to stderr."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from ledger.cli.chart import Canvas

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST_CHART_COLUMNS = 30
PIPED_CHART_COLUMNS = 80
WIDEST_TABLE = 1_000
"""Columns; where nobody sees a screen's edge, nothing is cut to fit one."""


def out() -> Console:
    """Results. Made anew each time, as tests and pagers replace the streams."""
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDEST_TABLE
    return console


def err() -> Console:
    """Whatever is not a result."""
    return Console(stderr=True, highlight=False, emoji=False, markup=False)


def say(words: str) -> None:
    """One line or paragraph of result."""
    out().print(words, soft_wrap=True)


def hint(words: str) -> None:
    """What is good to know, and no part of the result."""
    err().print(Text(words, style="dim"), soft_wrap=True)


def say_json(value: object) -> None:
    """The result for a program: what ``to_dict()`` gave, never wrapped or coloured."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def busy(words: str) -> Iterator[None]:
    """A spinner while something takes its time; nothing where stderr is not a terminal."""
    console = err()
    if not console.is_terminal:
        yield
        return
    with console.status(words):
        yield


def printable(words: str) -> str:
    """Text from the database without control characters, which could steer a terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in words)


def canvas() -> Canvas:
    """Where charts are drawn: as wide as the terminal, or as one of old."""
    console = out()
    columns = console.width if console.is_terminal else min(console.width, PIPED_CHART_COLUMNS)
    return Canvas(
        columns=max(columns, LEAST_CHART_COLUMNS),
        has_colour=console.color_system is not None,
        has_unicode=not console.options.ascii_only,
    )
