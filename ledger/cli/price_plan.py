"""What an import of prices adds to those that are recorded, and where the two disagree.

Recorded prices never change. What a catalogue corrects is a conflict, or, where the caller
says so, a price of its own that holds from now on; calls of before keep the one of before.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from ledger.pricing.lookup import by_model
from ledger.records.plain import Record
from ledger.records.prices import ModelPrice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

_Series: TypeAlias = "tuple[str, str, str, int]"
"""Provider, model, service tier and context size: of their prices one holds at a time."""
_Key: TypeAlias = "tuple[str, str, str, int, datetime]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Record):
    """A price that is said otherwise than it is recorded."""

    said: ModelPrice
    recorded: ModelPrice


@dataclass(frozen=True, slots=True, kw_only=True)
class PricePlan:
    """What is to be done with the prices of an import."""

    new: tuple[ModelPrice, ...]
    known: int
    """Prices that are recorded, or whose rates hold by a later record."""
    changes: tuple[Difference, ...]
    """What holds now, by an earlier import, and no longer in the catalogue; `said` from now on."""
    others: tuple[Difference, ...]
    """Rates of the past, and prices that somebody else has said."""
    overruled: int = 0
    """Prices of a catalogue for service tiers of models that somebody prices himself."""


def planned(
    said: Sequence[ModelPrice], recorded: Sequence[ModelPrice], *, origin: str | None, now: datetime
) -> PricePlan:
    """Compare the prices that are said with all that are recorded.

    ``origin`` is how the `source` of a catalogue's prices begins, in whatever version: only such
    prices follow the catalogue when it changes, and where there are others it adds none, which
    would end theirs. None is for prices that nothing came before.
    """
    by_key = {price.key: price for price in recorded}
    own = _own(recorded, origin)
    overruled = _overruled(said, own) - by_key.keys()
    said = [price for price in said if price.key not in overruled]
    new: list[ModelPrice] = []
    known = 0
    conflicts: list[Difference] = []
    for price in said:
        if (other := by_key.setdefault(price.key, price)) is price:
            new.append(price)
        elif other.rates == price.rates:
            known += 1
        else:
            conflicts.append(Difference(said=price, recorded=other))
    if origin is None:
        return PricePlan(new=tuple(new), known=known, changes=(), others=tuple(conflicts))
    holding = {_series(price): price for price in in_force(by_key.values(), now)}
    asked = {_series(price): price for price in in_force(said, now)}
    changes = {
        _series(change.recorded): change
        for change in (*_changed(asked, holding, now), *_ended(said, asked, holding, now))
        if change.recorded.source.startswith(origin)
    }
    others = []
    for conflict in conflicts:
        series = _series(conflict.said)
        if conflict.said is not asked.get(series):
            others.append(conflict)
        elif holding[series].rates == conflict.said.rates:
            known += 1
        elif series not in changes:
            others.append(conflict)
    return PricePlan(
        new=tuple(new),
        known=known,
        changes=tuple(changes.values()),
        others=tuple(others),
        overruled=len(overruled),
    )


def _own(recorded: Iterable[ModelPrice], origin: str | None) -> dict[_Series, datetime]:
    """Since when somebody else than the catalogue says a price."""
    own: dict[_Series, datetime] = {}
    for price in recorded:
        if origin is not None and not price.source.startswith(origin):
            series = _series(price)
            own[series] = min(own.get(series, price.effective_from), price.effective_from)
    return own


def _overruled(said: Iterable[ModelPrice], own: Mapping[_Series, datetime]) -> set[_Key]:
    """What would end a price of one's own, or hold beside it for calls of another size."""
    of_tiers: defaultdict[tuple[str, str, str], list[ModelPrice]] = defaultdict(list)
    for price in said:
        of_tiers[_series(price)[:3]].append(price)
    found: set[_Key] = set()
    for tier in {series[:3] for series in own}:
        prices = of_tiers[tier]
        has_other_sizes = any(_series(price) not in own for price in prices)
        found |= {
            price.key
            for price in prices
            if has_other_sizes or price.effective_from >= own[_series(price)]
        }
    return found


def in_force(prices: Iterable[ModelPrice], at: datetime) -> list[ModelPrice]:
    """The prices that hold at a moment, one that is withdrawn among them, in their order."""
    holding = (
        rated.price
        for tiers in by_model(prices).values()
        for timelines in tiers.values()
        for timeline in timelines
        if (rated := timeline.begun(at)) is not None
    )
    return sorted(holding, key=_series)


def _changed(
    asked: dict[_Series, ModelPrice], holding: dict[_Series, ModelPrice], now: datetime
) -> Iterator[Difference]:
    for series, price in asked.items():
        if holding[series].rates != price.rates:
            yield Difference(said=replace(price, effective_from=now), recorded=holding[series])


def _ended(
    said: Sequence[ModelPrice],
    asked: dict[_Series, ModelPrice],
    holding: dict[_Series, ModelPrice],
    now: datetime,
) -> Iterator[Difference]:
    """Context sizes that the catalogue tells apart no more, in service tiers that it has."""
    tiers = {series[:3]: price for series, price in asked.items()}
    known = {_series(price) for price in said}
    for series, price in holding.items():
        if series not in known and series[:3] in tiers and not price.is_withdrawn:
            withdrawn = ModelPrice(
                provider=price.provider,
                model=price.model,
                service_tier=price.service_tier,
                context_tokens_from=price.context_tokens_from,
                effective_from=now,
                is_withdrawn=True,
                source=tiers[series[:3]].source,
            )
            yield Difference(said=withdrawn, recorded=price)


def _series(price: ModelPrice) -> _Series:
    return price.provider, price.model, price.service_tier, price.context_tokens_from
