"""The models that seeded calls go to, and their habits, from `models.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Item = TypeVar("Item")

FILE = "models.json"
PICODOLLARS_PER_TOKEN = 10**6
"""What a US dollar a million tokens is, in millionths of a millionth of a dollar a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNormal:
    """A distribution with a long right tail, bounded so that a draw is always plausible."""

    median: float
    sigma: float
    most: int = 600_000

    def at(self, deviation: float) -> int:
        """The whole number at so many standard deviations from the median, at least 1."""
        return min(max(int(self.median * exp(self.sigma * deviation)), 1), self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a token costs, in millionths of a millionth of a US dollar: whole numbers, so exact."""

    input: int
    output: int
    cache_read: int
    cache_write: int

    @classmethod
    def of(cls, usd_per_million_tokens: Mapping[str, str]) -> Price:
        """The price of a token, from US dollars for a million of them."""
        picodollars = {
            name: Decimal(price) * PICODOLLARS_PER_TOKEN
            for name, price in usd_per_million_tokens.items()
        }
        for name, amount in picodollars.items():
            if amount != int(amount):
                raise ValueError(f"{name} price {usd_per_million_tokens[name]} is finer than 1e-6")
        return cls(**{name: int(amount) for name, amount in picodollars.items()})

    def cost_usd(
        self,
        *,
        input_tokens: int,
        output_tokens: int,
        cache_read_tokens: int,
        cache_write_tokens: int,
    ) -> Decimal:
        """What a call costs in US dollars; cached tokens are parts of the input."""
        uncached = input_tokens - cache_read_tokens - cache_write_tokens
        picodollars = (
            uncached * self.input
            + cache_read_tokens * self.cache_read
            + cache_write_tokens * self.cache_write
            + output_tokens * self.output
        )
        return Decimal(picodollars).scaleb(-12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model: how often it is called, and how such calls go."""

    provider: str
    model: str
    response_model: str
    operation: str
    weight: int
    latency_ms: LogNormal
    time_to_first_token_ms: LogNormal | None
    input_tokens: LogNormal
    output_tokens: LogNormal | None
    cached_share: float
    """How many calls find the beginning of their prompt in the provider's cache."""
    writes_cache: bool
    """Whether the provider charges for putting a prompt into its cache."""
    reasoning_share: float
    """How many calls think before they answer."""
    streaming_share: float
    error_rate: float
    price: Price | None
    """None for a model whose price nobody knows yet."""


def models(path: Path | None = None) -> tuple[Model, ...]:
    """The catalogue's models, in its order."""
    entries = json.loads((path or catalogue_path()).read_text(encoding="utf-8"))["models"]
    return tuple(_model(entry) for entry in entries)


def urn(weights: Mapping[Item, int]) -> list[Item]:
    """Every item as often as it weighs: drawing is one index, not a search in sums."""
    return [item for item, weight in weights.items() for _ in range(weight)]


def catalogue_path() -> Path:
    """Where the catalogue is: in an installed package beside this file, else in `scripts/`."""
    installed = Path(__file__).with_name(FILE)
    return installed if installed.exists() else Path(__file__).parents[2] / "scripts" / FILE


def _model(entry: dict[str, Any]) -> Model:
    fields = dict(entry)
    price = fields.pop("usd_per_million_tokens")
    for name in ("latency_ms", "time_to_first_token_ms", "input_tokens", "output_tokens"):
        fields[name] = None if fields[name] is None else LogNormal(**fields[name])
    return Model(**fields, price=None if price is None else Price.of(price))
