"""When seeded calls happen: busy afternoons, quiet nights and weekends, a provider's bad hours."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from math import cos, exp, pi
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SLOT = timedelta(minutes=5)
"""Short beside every rhythm."""
SLOTS_A_DAY = timedelta(days=1) // SLOT

BUSIEST_HOUR_UTC = 14.5
WEEKEND_SHARE = 0.4
"""A weekend day's calls beside a working day's."""
FIRST_WEEKEND_DAY = 5

CALM_DAYS = 1.5
"""How long, on average, a provider goes without an episode."""


OUTAGES_SHARE = 0.4
"""How many episodes are outages; the others are rate limits."""


class Trouble(StrEnum):
    """What ails a provider during an episode."""

    RATE_LIMIT = "rate limit"
    OUTAGE = "outage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A time in which many of a provider's calls fail."""

    provider: str
    trouble: Trouble
    start: datetime
    end: datetime
    share: float
    """How many calls fail."""


def episodes(
    providers: Sequence[str], *, start: datetime, end: datetime, random: Random
) -> list[Episode]:
    """Every provider's bad hours, and, however short the time, one of each kind."""
    found = [
        _episode(random, providers[0], Trouble.RATE_LIMIT, start + (end - start) * 0.35, end),
        _episode(random, providers[0], Trouble.OUTAGE, start + (end - start) * 0.7, end),
    ]
    for provider in providers:
        moment = start
        while True:
            moment += timedelta(days=random.expovariate(1 / CALM_DAYS))
            if moment >= end:
                break
            trouble = Trouble.OUTAGE if random.random() < OUTAGES_SHARE else Trouble.RATE_LIMIT
            found.append(_episode(random, provider, trouble, moment, end))
    return found


def _episode(
    random: Random, provider: str, trouble: Trouble, start: datetime, end: datetime
) -> Episode:
    typical = 40 if trouble is Trouble.OUTAGE else 75
    minutes = timedelta(minutes=typical * exp(random.gauss(0, 0.5)))
    return Episode(
        provider=provider,
        trouble=trouble,
        start=start,
        end=min(start + minutes, end),
        share=random.uniform(0.3, 0.8),
    )


def moments(
    rows: int,
    *,
    start: datetime,
    end: datetime,
    troubles: Sequence[Episode],
    random: Random,
) -> Iterator[tuple[datetime, Mapping[str, Episode]]]:
    """The times of exactly ``rows`` calls in [start, end), in order, to the millisecond.

    Beside each the episodes it falls into, by provider.
    """
    slots = max(-((start - end) // SLOT), 1)
    busyness = [
        _busyness(start + SLOT * (number + 0.5)) * exp(random.gauss(0, 0.15))
        for number in range(slots)
    ]
    active = _by_slot(troubles, start)
    total, placed = sum(busyness), 0
    for number, so_far in enumerate(accumulate(busyness)):
        due = rows if number == slots - 1 else min(round(rows * so_far / total), rows)
        slot, troubled = start + SLOT * number, active.get(number, {})
        length_ms = min(SLOT, end - slot) // timedelta(milliseconds=1)
        passed = 0.0
        for left in range(due - placed, 0, -1):
            # The least of so many draws of what is left of the slot: in order without a sort.
            passed += (1 - passed) * (1 - random.random() ** (1 / left))
            offset_ms = min(int(passed * length_ms), length_ms - 1)
            yield slot + timedelta(milliseconds=offset_ms), troubled
        placed = due


def _by_slot(troubles: Sequence[Episode], start: datetime) -> dict[int, dict[str, Episode]]:
    """The episodes that each slot touches, by provider."""
    active: dict[int, dict[str, Episode]] = defaultdict(dict)
    for episode in troubles:
        first, end = (episode.start - start) // SLOT, -((start - episode.end) // SLOT)
        for number in range(first, end):
            active[number][episode.provider] = episode
    return active


def _busyness(moment: datetime) -> float:
    moment = moment.astimezone(UTC)
    hour = moment.hour + moment.minute / 60
    day = 1 + 0.8 * cos((hour - BUSIEST_HOUR_UTC) / 24 * 2 * pi)
    return day * (WEEKEND_SHARE if moment.weekday() >= FIRST_WEEKEND_DAY else 1)
