"""Durations as a person writes and reads them: `90d`, `90 days`, `1d 12h`."""

from __future__ import annotations

import re
from datetime import timedelta

import typer

from ledger.errors import InvalidArgument

_UNITS = {
    "week": timedelta(weeks=1),
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
    "minute": timedelta(minutes=1),
}
_NAMES = {
    name: unit
    for word, unit in _UNITS.items()
    for name in (word[0], word, f"{word}s", *(("min",) if word == "minute" else ()))
}
_PART = re.compile(r"(\d+)\s*([a-z]+)")
_WHOLE = re.compile(rf"\s*{_PART.pattern}(?:[\s,]*{_PART.pattern})*\s*")


def duration(words: str) -> timedelta:
    """How long ``words`` say, in weeks, days, hours and minutes; always more than nothing.

    Raises InvalidArgument for anything else, months and years among it: they have no one length.
    """
    lowered = words.lower()
    refusal = InvalidArgument(
        f"{words!r} is not a duration; write it as 90d, '90 days', 12h or '1d 12h'"
    )
    if _WHOLE.fullmatch(lowered) is None:
        raise refusal
    total = timedelta(0)
    for number, unit in _PART.findall(lowered):
        if unit not in _NAMES:
            raise refusal
        try:
            total += int(number) * _NAMES[unit]
        except (OverflowError, ValueError):
            raise InvalidArgument(f"{words!r} is longer than any duration can be") from None
    if not total:
        raise InvalidArgument(f"{words!r} is no time at all; a duration is longer than nothing")
    return total


def spoken(length: timedelta | None) -> str:
    """The duration in words, exact to the second; None is for ever."""
    if length is None:
        return "for ever"
    seconds = round(length.total_seconds())
    words = []
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        number, seconds = divmod(seconds, size)
        if number:
            words.append(f"{number:,} {unit}{'' if number == 1 else 's'}")
    return " ".join(words) or "no time"


def parsed(words: str) -> timedelta:
    """The duration of an option. Raises typer.BadParameter with the reason."""
    try:
        return duration(words)
    except InvalidArgument as error:
        raise typer.BadParameter(str(error)) from None
