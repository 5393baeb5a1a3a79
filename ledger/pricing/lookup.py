"""Which price held: prices made ready to be looked up by model, service tier, context and time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from ledger.records.amounts import scaled
from ledger.records.prices import Kind, ModelPrice
from ledger.records.refusal import refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS: Final[tuple[Kind, ...]] = ("input", "cache_read", "cache_write", "output", "reasoning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a million tokens of one kind cost."""

    kind: Kind
    usd_per_million: Decimal
    scaled: int
    """The same in units of its twelfth decimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """A price, with the rate of each kind in the order of KINDS, None where there is none."""

    price: ModelPrice
    rates: tuple[Rate | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The prices of one context size, in the order in which they begin."""

    context_tokens_from: int
    starts: list[datetime] = field(default_factory=list)
    prices: list[Rated] = field(default_factory=list)

    def begun(self, at: datetime) -> Rated | None:
        """The last price that has begun, withdrawn or not."""
        begun = bisect_right(self.starts, at)
        return self.prices[begun - 1] if begun else None


Tiers = dict[str, list[Timeline]]
"""By service tier, the greatest context first: the first that a call reaches is its own."""


def by_model(prices: Iterable[ModelPrice]) -> dict[tuple[str, str], Tiers]:
    """The prices by provider and model. Raises InvalidRecord for two of one moment."""
    models: dict[tuple[str, str], Tiers] = {}
    for price in sorted(_distinct(prices), key=lambda price: price.effective_from):
        tiers = models.setdefault((price.provider, price.model), {})
        timeline = _of_context(tiers.setdefault(price.service_tier, []), price)
        timeline.starts.append(price.effective_from)
        timeline.prices.append(_rated(price))
    return models


def _distinct(prices: Iterable[ModelPrice]) -> Iterable[ModelPrice]:
    by_key: dict[object, ModelPrice] = {}
    for price in prices:
        other = by_key.setdefault(price.key, price)
        if other.rates != price.rates:
            rule = (
                f"has two prices for service tier {price.service_tier!r} from"
                f" {price.context_tokens_from} tokens at {price.effective_from.isoformat()},"
                f" of {other.source} and of {price.source}; leave one out"
            )
            raise refusal("model", price.model, rule)
    return by_key.values()


def _of_context(timelines: list[Timeline], price: ModelPrice) -> Timeline:
    for timeline in timelines:
        if timeline.context_tokens_from == price.context_tokens_from:
            return timeline
    made = Timeline(context_tokens_from=price.context_tokens_from)
    timelines.append(made)
    timelines.sort(key=lambda timeline: -timeline.context_tokens_from)
    return made


def _rated(price: ModelPrice) -> Rated:
    plain_input, cache_read, cache_write, output, reasoning = price.rates
    # A part without a rate of its own has no discount, and no premium.
    rates = (
        plain_input,
        plain_input if cache_read is None else cache_read,
        plain_input if cache_write is None else cache_write,
        output,
        output if reasoning is None else reasoning,
    )
    return Rated(price=price, rates=tuple(map(_rate, KINDS, rates)))


def _rate(kind: Kind, usd_per_million: Decimal | None) -> Rate | None:
    if usd_per_million is None:
        return None
    number = scaled(usd_per_million)
    assert number is not None  # as ModelPrice requires
    return Rate(kind=kind, usd_per_million=usd_per_million, scaled=number)
