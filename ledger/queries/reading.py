"""What each question sums, and its rows as the records that callers see.

A row is what its grouping groups by, its measures and, of those that have them, its
percentiles, in this order; rows are sorted. They are taken apart by place: by name it would
take three times as long, which a series of hundreds of buckets shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, TypedDict

from ledger.queries.query import Cells
from ledger.queries.shape import Era, Grouping
from ledger.records.telemetry import DailyModelCost, ModelErrorRate, ModelLatency, TimeBucket


class TotalsFields(TypedDict):
    """The fields of Totals, for those that have more."""

    requests: int
    errors: int
    rate_limited: int
    error_rate: float
    average_latency_ms: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal
    unpriced_requests: int


_TOTALS: Final = (
    "requests",
    "errors",
    "rate_limited",
    "latency_sum_ms",
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "unpriced_requests",
)
_BY_MODEL: Final = ("provider", "model")

OVERVIEW: Final = Grouping(measures=_TOTALS, has_percentiles=True)
SERIES: Final = Grouping(measures=_TOTALS, era=Era.BUCKET, has_percentiles=True)
LATENCY: Final = Grouping(
    measures=("requests", "latency_sum_ms"), keys=_BY_MODEL, has_percentiles=True
)
COST: Final = Grouping(
    measures=("requests", "input_tokens", "output_tokens", "cost_usd", "unpriced_requests"),
    keys=_BY_MODEL,
    era=Era.DAY,
)
ERRORS: Final = Grouping(measures=("requests", "errors", "rate_limited"), keys=_BY_MODEL)

_NOTHING: Final = TotalsFields(
    requests=0,
    errors=0,
    rate_limited=0,
    error_rate=0.0,
    average_latency_ms=None,
    p50_latency_ms=None,
    p95_latency_ms=None,
    p99_latency_ms=None,
    input_tokens=0,
    output_tokens=0,
    reasoning_tokens=0,
    cost_usd=Decimal(0),
    unpriced_requests=0,
)


def totals(rows: Sequence[Cells]) -> TotalsFields:
    """The sums of OVERVIEW's only row; zeros for none."""
    return _totals(rows[0]) if rows else _NOTHING


def time_buckets(rows: Sequence[Cells], starts: Sequence[datetime]) -> list[TimeBucket]:
    """A bucket for each of ``starts``, which rows name whatever their time zone."""
    found: Mapping[datetime, Cells] = {row[0]: row[1:] for row in rows}
    return [
        TimeBucket(bucket_start=start, **(_totals(found[start]) if start in found else _NOTHING))
        for start in starts
    ]


def model_latencies(rows: Sequence[Cells]) -> list[ModelLatency]:
    """By provider and model."""
    return [
        ModelLatency(
            provider=provider,
            model=model,
            requests=requests,
            average_latency_ms=latency_sum_ms / requests,
            p50_latency_ms=p50,
            p95_latency_ms=p95,
            p99_latency_ms=p99,
        )
        for provider, model, requests, latency_sum_ms, p50, p95, p99 in rows
    ]


def daily_model_costs(rows: Sequence[Cells], dates: Sequence[date]) -> list[DailyModelCost]:
    """By day, provider and model; a row names its day by its place in ``dates``, from 1."""
    return [
        DailyModelCost(
            day=dates[day - 1],
            provider=provider,
            model=model,
            requests=requests,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost_usd=cost_usd,
            unpriced_requests=unpriced,
        )
        for day, provider, model, requests, input_tokens, output_tokens, cost_usd, unpriced in rows
    ]


def model_error_rates(rows: Sequence[Cells]) -> list[ModelErrorRate]:
    """By provider and model."""
    return [
        ModelErrorRate(
            provider=provider,
            model=model,
            requests=requests,
            errors=errors,
            rate_limited=rate_limited,
            error_rate=errors / requests,
            rate_limit_rate=rate_limited / requests,
        )
        for provider, model, requests, errors, rate_limited in rows
    ]


def _totals(columns: Sequence[Any]) -> TotalsFields:
    requests, errors, rate_limited, latency_sum_ms, *sums, p50, p95, p99 = columns
    input_tokens, output_tokens, reasoning_tokens, cost_usd, unpriced_requests = sums
    return {
        "requests": requests,
        "errors": errors,
        "rate_limited": rate_limited,
        "error_rate": errors / requests,
        "average_latency_ms": latency_sum_ms / requests,
        "p50_latency_ms": p50,
        "p95_latency_ms": p95,
        "p99_latency_ms": p99,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "reasoning_tokens": reasoning_tokens,
        "cost_usd": cost_usd,
        "unpriced_requests": unpriced_requests,
    }
