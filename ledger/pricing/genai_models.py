"""One model of genai-prices as prices of ours, each of which says exactly what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Final

from ledger.errors import InvalidRecord
from ledger.pricing.genai_rates import (
    INPUT,
    OUTPUT,
    SAID,
    WRITE,
    WRITE_1H,
    changes,
    given,
    is_of_a_modality,
)
from ledger.pricing.service_tiers import CACHE_1H
from ledger.records.plain import Record
from ledger.records.prices import STANDARD, ModelPrice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from genai_prices.types import ConditionalPrice, ModelInfo, PriceVariant
    from genai_prices.types import ModelPrice as Prices

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""From when a price without a date holds."""

_TOOL_CALLS: Final = frozenset(
    {
        "web_searches_kcount",
        "social_searches_kcount",
        "storage_searches_kcount",
        "code_executions_kcount",
    }
)
"""Charged beside tokens, where a call makes use of it."""
_CONTEXTS: Final = frozenset({"service_tier", "processing", "speed"})
"""Words of a request that choose a price, of which each value is a service tier of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut(Record):
    """What a price of ours cannot say."""

    provider: str
    model: str
    part: str | None
    """The service tier or charge that is left out; None where it is the model."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What prices of ours say of a model, and what they do not."""

    prices: list[ModelPrice] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def model_prices(
    provider: str, model: ModelInfo, names: Sequence[str], source: str, *, text_only: bool
) -> Said:
    """The model's prices under each of its names."""
    said = Said()

    def leave_out(reason: str, part: str | None = None) -> None:
        said.left_out.append(LeftOut(provider=provider, model=model.id, part=part, reason=reason))

    keys = {key for prices in _all_prices(model) for key, _ in given(prices)}
    if reason := _why_none(model, names, keys, text_only=text_only):
        leave_out(reason)
        return said
    for key in sorted(keys & _TOOL_CALLS):
        leave_out("is charged beside tokens", key)
    try:
        for tier, context, starts in _tiers(model, leave_out):
            for suffix, write in (("", WRITE), (f"+{CACHE_1H}", WRITE_1H)):
                said.prices.extend(
                    ModelPrice(
                        provider=provider,
                        model=name,
                        service_tier=tier + suffix,
                        context_tokens_from=context_tokens_from,
                        effective_from=start,
                        is_withdrawn=not rates,
                        source=source,
                        **rates,
                    )
                    for start, context_tokens_from, rates in changes(model, context, starts, write)
                    for name in names
                )
    except InvalidRecord as error:  # a rate of more decimals than we keep
        said.prices.clear()
        said.left_out.clear()
        leave_out(str(error))
    return said


def _why_none(
    model: ModelInfo, names: Sequence[str], keys: set[str], *, text_only: bool
) -> str | None:
    others = keys - SAID - _TOOL_CALLS
    if text_only:
        others = {key for key in others if not is_of_a_modality(key)}
    if not keys & {INPUT, OUTPUT}:
        return "has no rate for input or output tokens"
    if others:
        return f"counts other things than tokens of text: {', '.join(sorted(others))}"
    if any(_start(period) is None for period in _periods(model)):
        return "depends on the time of day"
    if not names:
        return "is known by a pattern alone; pass the names that were met"
    return None


def _tiers(
    model: ModelInfo, leave_out: Callable[[str, str], None]
) -> Iterator[tuple[str, dict[str, str], list[datetime]]]:
    """Each service tier, what chooses it, and when its prices may change, the earliest first."""
    standard = sorted({start for period in _periods(model) if (start := _start(period))})
    yield STANDARD, {}, standard
    begins: dict[tuple[tuple[str, str], ...], list[datetime | None]] = {}
    for variant in model.price_variants or ():
        begins.setdefault(tuple(sorted(variant.when.items())), []).append(_start(variant))
    tiers = {STANDARD}
    for context, starts in begins.items():
        tier = "+".join(value for _, value in context)
        known = [start for start in starts if start is not None]
        if len(context) > 1 or context[0][0] not in _CONTEXTS:
            leave_out(f"is chosen by {', '.join(word for word, _ in context)}", tier)
        elif len(known) < len(starts):
            leave_out("depends on the time of day", tier)
        elif tier in tiers:
            leave_out("is the name of two tiers", tier)
        else:
            tiers.add(tier)
            first = max(min(known), standard[0])
            moments = {first, *(start for start in [*known, *standard] if start > first)}
            yield tier, dict(context), sorted(moments)


def _periods(model: ModelInfo) -> list[ConditionalPrice]:
    # What has no condition may stand alone, outside of a list.
    from genai_prices.types import ConditionalPrice  # noqa: PLC0415 - an extra

    if isinstance(model.prices, list):
        return model.prices
    return [ConditionalPrice(prices=model.prices)]


def _start(dated: ConditionalPrice | PriceVariant) -> datetime | None:
    """When it begins, in UTC; None where it comes and goes with the time of day."""
    if dated.constraint is None:
        return EPOCH
    day = getattr(dated.constraint, "start_date", None)
    return None if day is None else datetime.combine(day, time.min, UTC)


def _all_prices(model: ModelInfo) -> Iterator[Prices]:
    yield from (period.prices for period in _periods(model))
    yield from (variant.prices for variant in model.price_variants or ())
