"""The rates of a model of genai-prices: by context, and as they change from one day to another."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

INPUT: Final = "input_mtok"
OUTPUT: Final = "output_mtok"
WRITE: Final = "cache_write_mtok"
"""Kept for five minutes, where a model has a rate for an hour too."""
WRITE_1H: Final = "cache_write_1h_mtok"

_FIELDS: Final = {
    INPUT: "input_usd_per_million",
    OUTPUT: "output_usd_per_million",
    "cache_read_mtok": "cache_read_usd_per_million",
    "output_reasoning_mtok": "reasoning_usd_per_million",
}
SAID: Final = frozenset({*_FIELDS, WRITE, WRITE_1H})
"""The catalogue's keys of which a price of ours has the rate."""

_MODALITIES: Final = ("_audio_", "_image_", "_video_")


def given(prices: ModelPrice) -> Iterator[tuple[str, Decimal | TieredPrices]]:
    """The rates that it has, by the catalogue's keys."""
    return ((key, rate) for key, rate in vars(prices).items() if rate is not None)


def is_of_a_modality(key: str) -> bool:
    """Whether it is the rate of tokens that are no text."""
    return key.endswith("_mtok") and any(modality in key for modality in _MODALITIES)


def changes(
    model: ModelInfo, context: dict[str, str], starts: list[datetime], write: str
) -> Iterator[tuple[datetime, int, Mapping[str, Any]]]:
    """When the rates from some number of input tokens change, and to what; to none at their end.

    ``context`` is what chooses a service tier, ``write`` the key of the cache writes' rate.
    """
    last: dict[int, dict[str, Decimal]] = {}
    for start in starts:
        now = _by_context(model.get_prices(start, context), write)
        for context_tokens_from in sorted(last.keys() | now.keys()):
            rates = now.get(context_tokens_from, {})
            if rates != last.get(context_tokens_from, {}):
                yield start, context_tokens_from, rates
        last = {known: now.get(known, {}) for known in last.keys() | now.keys()}


def _by_context(prices: ModelPrice, write: str) -> dict[int, dict[str, Decimal]]:
    """Our fields' rates, by the number of input tokens from which on they are asked."""
    fields = {**_FIELDS, write: "cache_write_usd_per_million"}
    rates = {key: rate for key, rate in given(prices) if key in fields}
    if rates.keys().isdisjoint((INPUT, OUTPUT)) or (write == WRITE_1H and write not in rates):
        return {}
    contexts = {0}
    for rate in rates.values():
        if not isinstance(rate, Decimal):
            # The catalogue's tier begins above its start, ours at its context.
            contexts.update(tier.start + 1 for tier in rate.tiers)
    return {
        context: {fields[key]: _at(rate, context) for key, rate in rates.items()}
        for context in contexts
    }


def _at(rate: Decimal | TieredPrices, input_tokens: int) -> Decimal:
    if isinstance(rate, Decimal):
        return rate
    reached = [tier.price for tier in rate.tiers if input_tokens > tier.start]
    return reached[-1] if reached else rate.base
