"""What a model costs, and what came of pricing a call by it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal
from uuid import UUID

from ledger.records.amounts import USD_DECIMALS, USD_DIGITS, scaled
from ledger.records.plain import Record
from ledger.records.refusal import refusal
from ledger.records.rules import require_text
from ledger.records.tokens import GREATEST_COUNT

STANDARD: Final = "standard"
"""The service tier of a call that asked for none."""

Kind = Literal["input", "cache_read", "cache_write", "output", "reasoning"]
"""Tokens that have a rate of their own. `input` and `output` are what the parts leave."""

Reason = Literal[
    "unknown_model",
    "unknown_service_tier",
    "unknown_context_size",
    "not_yet_effective",
    "withdrawn",
    "no_rate",
]

_RATES: Final = (
    "input_usd_per_million",
    "cache_read_usd_per_million",
    "cache_write_usd_per_million",
    "output_usd_per_million",
    "reasoning_usd_per_million",
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice(Record):
    """What a model's tokens cost from some moment on, in US dollars a million.

    It holds until the next price of the same model, service tier and context size begins; one
    that is withdrawn has no rates and ends the one before it. A missing cache rate means that
    the cache is billed like other input, a missing reasoning rate like other output.

    Raises InvalidRecord.
    """

    provider: str
    model: str
    service_tier: str = STANDARD
    context_tokens_from: int = 0
    """It is the price of calls with at least so many input tokens."""
    effective_from: datetime
    """Aware; kept in UTC."""
    is_withdrawn: bool = False
    input_usd_per_million: Decimal | None = None
    output_usd_per_million: Decimal | None = None
    cache_read_usd_per_million: Decimal | None = None
    cache_write_usd_per_million: Decimal | None = None
    reasoning_usd_per_million: Decimal | None = None
    source: str
    """Who says so."""
    id: UUID | None = None
    """Its row's, once it is stored."""

    def __post_init__(self) -> None:
        for field in ("provider", "model", "service_tier", "source"):
            require_text(field, getattr(self, field))
        if (
            type(self.context_tokens_from) is not int
            or not 0 <= self.context_tokens_from <= GREATEST_COUNT
        ):
            rule = f"not a whole number from 0 to {GREATEST_COUNT}"
            raise refusal("context_tokens_from", self.context_tokens_from, rule)
        object.__setattr__(self, "effective_from", _moment(self.effective_from))
        for field in _RATES:
            _require_rate(field, getattr(self, field))
        self._require_rates_unless_withdrawn()

    @property
    def key(self) -> tuple[str, str, str, int, datetime]:
        """What there is one price of."""
        return (
            self.provider,
            self.model,
            self.service_tier,
            self.context_tokens_from,
            self.effective_from,
        )

    @property
    def rates(self) -> tuple[Decimal | None, ...]:
        """The rates of input, cache reads, cache writes, output and reasoning, as they are."""
        return tuple(getattr(self, field) for field in _RATES)

    def _require_rates_unless_withdrawn(self) -> None:
        given = [field for field in _RATES if getattr(self, field) is not None]
        if self.is_withdrawn and given:
            rule = "has a rate, but a withdrawn price has none; leave it out, or is_withdrawn"
            raise refusal(given[0], getattr(self, given[0]), rule)
        if not self.is_withdrawn and not {_RATES[0], _RATES[3]}.intersection(given):
            rule = f"needs {_RATES[0]} or {_RATES[3]}; or say is_withdrawn"
            raise refusal("model", self.model, rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedTokens(Record):
    """What one kind of token of a call cost."""

    kind: Kind
    tokens: int
    usd_per_million: Decimal
    """The rate applied: that of all input or output where the kind has none of its own."""
    cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced(Record):
    """What a call cost."""

    cost_usd: Decimal
    """Rounded once, half-even, to 12 decimals."""
    items: tuple[PricedTokens, ...]
    """Its parts, which add up to it exactly; a kind without tokens is none."""
    price: ModelPrice


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpriced(Record):
    """Why it cannot be said what a call cost, which is never nothing."""

    reason: Reason
    sentence: str
    """The reason for a person, with the names in question."""


def _require_rate(field: str, rate: object) -> None:
    if rate is None:
        return
    if not isinstance(rate, Decimal):
        raise refusal(field, rate, "not a Decimal")
    if rate.is_nan() or rate < 0 or scaled(rate) is None:
        rule = (
            f"not an amount of at least 0 with at most {USD_DIGITS} digits before and"
            f" {USD_DECIMALS} after the decimal point"
        )
        raise refusal(field, rate, rule)


def _moment(moment: object) -> datetime:
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        rule = "has no time zone; pass an aware datetime, for example 2026-03-01T00:00:00Z"
        raise refusal("effective_from", moment, rule)
    try:
        in_utc = moment.astimezone(UTC)
    except OverflowError:
        in_utc = None
    if in_utc is None or in_utc < _EPOCH:
        raise refusal("effective_from", moment, "outside the years 1970 to 9999")
    return in_utc
