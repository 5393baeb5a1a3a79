"""What the telemetry ledger answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from ledger.records.plain import Record, plain
from ledger.window import Window

Item = TypeVar("Item", bound=Record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals(Record):
    """Requests, added up. Without any, sums are zero and averages and percentiles None."""

    requests: int
    errors: int
    """Requests with a status of 400 or more, or with an error type."""
    rate_limited: int
    """Requests with the status 429; they are errors too."""
    error_rate: float
    """Errors by requests, 0 to 1."""
    average_latency_ms: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal
    """Exact; requests without a price add nothing to it."""
    unpriced_requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview(Totals):
    """A window in one line."""

    window: Window
    """What was summed: what was asked for, or whole hours where `is_exact` is False."""
    percentile_error: float
    """How far, relatively, a percentile may be from the order statistics within one rank."""
    is_exact: bool
    """Whether the edges are those asked for; raw rows for older ones are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBucket(Totals):
    """One step of a time series, as far as it lies in the window."""

    bucket_start: datetime
    """UTC, a multiple of the bucket's width since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLatency(Record):
    """How long one model took."""

    provider: str
    model: str
    requests: int
    average_latency_ms: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyModelCost(Record):
    """What one model cost on one day."""

    day: date
    """A day of the time zone that was asked for."""
    provider: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    """Exact; requests without a price add nothing to it."""
    unpriced_requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelErrorRate(Record):
    """How often one model failed."""

    provider: str
    model: str
    requests: int
    errors: int
    rate_limited: int
    error_rate: float
    """Errors by requests, 0 to 1."""
    rate_limit_rate: float
    """Rate limited requests by requests, 0 to 1."""


class Answer(list[Item]):
    """A list of results, and what they are results of."""

    __slots__ = ("is_exact", "percentile_error", "window")

    def __init__(
        self, items: Iterable[Item], *, window: Window, percentile_error: float, is_exact: bool
    ) -> None:
        super().__init__(items)
        self.window = window
        """What was summed: what was asked for, or whole hours where those are all there is."""
        self.percentile_error = percentile_error
        """How far, relatively, a percentile may be from the order statistics within one rank."""
        self.is_exact = is_exact
        """Whether the edges, and the borders of days, are those asked for."""

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON holds it, its results under `items`."""
        return {
            "window": plain(self.window),
            "percentile_error": self.percentile_error,
            "is_exact": self.is_exact,
            "items": [item.to_dict() for item in self],
        }
