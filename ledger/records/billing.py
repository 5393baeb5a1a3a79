"""What the billing ledger answers: frozen values, money as exact decimals of US dollars."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from ledger.records.plain import Record
from ledger.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginTotals(Record):
    """What was charged, what it cost, and what is left."""

    requests: int
    """Calls; corrections are none."""
    unpriced_requests: int
    """Those of them that were booked without a price: what a late price says of them is an
    adjustment, which has its own time. `unpriced_usage` has those that still wait."""
    revenue_usd: Decimal
    vendor_cost_usd: Decimal
    gross_margin_usd: Decimal
    margin_rate: float | None
    """The margin's share of the revenue; None without revenue."""
    credits_deducted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrossMargin(MarginTotals):
    """The margin of a window, beside that of the time as long before it."""

    window: Window
    previous: MarginTotals
    change: float | None
    """How much greater the margin is than before, as a share; None where it was zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginDay(MarginTotals):
    """The margin of one day of a time zone."""

    day: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs(Record):
    """What calls cost, whether they succeeded or not, and what was charged for them."""

    requests: int
    unpriced_requests: int
    input_tokens: int
    output_tokens: int
    vendor_cost_usd: Decimal
    charge_usd: Decimal
    gross_margin_usd: Decimal
    credits_deducted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderCost(Costs):
    """What the calls to one provider cost."""

    provider: str
    share: float | None
    """Of the cost of all that was asked for; None where that is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost(Costs):
    """What the calls to one model cost."""

    provider: str
    model: str
    share: float | None
    """Of the cost of all that was asked for; None where that is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCost(Costs):
    """What the calls of one user cost."""

    user_id: UUID
    external_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBucket(Record):
    """How many calls cost more than ``above_usd`` and at most ``up_to_usd``."""

    above_usd: Decimal
    up_to_usd: Decimal
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CostDistribution(Record):
    """How what calls cost is spread; corrections are left out, and unpriced calls."""

    window: Window
    requests: int
    free_requests: int
    """Those of them that cost nothing; in no bucket."""
    average_usd: Decimal | None
    median_usd: Decimal | None
    p90_usd: Decimal | None
    p95_usd: Decimal | None
    p99_usd: Decimal | None
    percentile_error: float
    """How far a percentile may be from the cost of the call at its rank, as a share."""
    buckets: tuple[CostBucket, ...]
    """From the cheapest to the dearest call, a third of a decade each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpricedUsage(Record):
    """Calls of one model that were booked without a price, for one reason, and have none yet."""

    provider: str
    model: str
    service_tier: str
    reason: str
    """One of `ledger.records.prices.Reason`; or `unknown_tier`, whose multiplier nobody said."""
    requests: int
    first_created_at: datetime
    last_created_at: datetime
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
