"""What the reads must answer, computed from a list of transactions in the most naive Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar
from zoneinfo import ZoneInfo

from ledger.records.telemetry import (
    DailyModelCost,
    ModelErrorRate,
    ModelLatency,
    Overview,
    TimeBucket,
    Totals,
)
from ledger.records.transaction import Transaction
from ledger.window import Window

Key = TypeVar("Key", bound=Hashable)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
QUANTILES = {"p50_latency_ms": 0.5, "p95_latency_ms": 0.95, "p99_latency_ms": 0.99}


def within(transactions: Iterable[Transaction], window: Window) -> list[Transaction]:
    return [row for row in transactions if window.start <= row.timestamp < window.end]


def is_error(row: Transaction) -> bool:
    return (row.http_status_code or 0) >= 400 or row.error_type is not None


def cost(rows: Iterable[Transaction]) -> Decimal:
    return sum((row.cost_usd for row in rows if row.cost_usd is not None), Decimal(0))


def interpolated(latencies: list[int], quantile: float) -> float:
    """What PostgreSQL's percentile_cont gives."""
    ordered = sorted(latencies)
    rank = quantile * (len(ordered) - 1)
    below, above = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    return below + (above - below) * (rank - math.floor(rank))


def assert_percentile(
    found: float | None, latencies: list[int], quantile: float, error: float
) -> None:
    """Exact where ``error`` is 0, else that near to an order statistic within one rank."""
    if not latencies:
        assert found is None
        return
    assert found is not None
    if error == 0:
        assert math.isclose(found, interpolated(latencies, quantile), rel_tol=1e-12)
        return
    ordered = sorted(latencies)
    rank = quantile * (len(ordered) - 1)
    least = ordered[max(math.floor(rank) - 1, 0)]
    most = ordered[min(math.ceil(rank) + 1, len(ordered) - 1)]
    assert least * (1 - error) <= found * (1 + 1e-9), (quantile, found, ordered)
    assert found * (1 - 1e-9) <= most * (1 + error), (quantile, found, ordered)


def assert_totals(found: Totals, rows: list[Transaction], error: float) -> None:
    requests = len(rows)
    errors = sum(1 for row in rows if is_error(row))
    assert found.requests == requests
    assert found.errors == errors
    assert found.rate_limited == sum(1 for row in rows if row.http_status_code == 429)
    assert found.error_rate == (errors / requests if rows else 0.0)
    assert found.average_latency_ms == (
        sum(row.latency_ms for row in rows) / requests if rows else None
    )
    assert found.input_tokens == sum(row.input_tokens for row in rows)
    assert found.output_tokens == sum(row.output_tokens for row in rows)
    assert found.reasoning_tokens == sum(row.reasoning_tokens for row in rows)
    assert found.cost_usd == cost(rows)
    assert isinstance(found.cost_usd, Decimal)
    assert found.unpriced_requests == sum(1 for row in rows if row.cost_usd is None)
    assert_percentiles(found, rows, error)


def assert_percentiles(found: Totals | ModelLatency, rows: list[Transaction], error: float) -> None:
    for name, quantile in QUANTILES.items():
        assert_percentile(getattr(found, name), [row.latency_ms for row in rows], quantile, error)


def assert_overview(found: Overview, transactions: list[Transaction]) -> None:
    assert_totals(found, within(transactions, found.window), found.percentile_error)


def assert_time_series(
    found: list[TimeBucket],
    transactions: list[Transaction],
    window: Window,
    width: timedelta,
    error: float,
) -> None:
    starts = []
    start = EPOCH + (window.start - EPOCH) // width * width
    while start < window.end and window.start < window.end:
        starts.append(start)
        start += width
    assert [bucket.bucket_start for bucket in found] == starts
    for bucket in found:
        rows = [
            row
            for row in within(transactions, window)
            if bucket.bucket_start <= row.timestamp < bucket.bucket_start + width
        ]
        assert_totals(bucket, rows, error)


def assert_latencies(
    found: list[ModelLatency], transactions: list[Transaction], window: Window, error: float
) -> None:
    expected = grouped(within(transactions, window), by_model)
    assert [(item.provider, item.model) for item in found] == sorted(expected)
    for item in found:
        rows = expected[item.provider, item.model]
        assert item.requests == len(rows)
        assert item.average_latency_ms == sum(row.latency_ms for row in rows) / len(rows)
        assert_percentiles(item, rows, error)


def daily_model_costs(
    transactions: list[Transaction],
    window: Window,
    timezone: str,
    *,
    raw_from: datetime = EPOCH,
) -> list[DailyModelCost]:
    """Rows of before ``raw_from`` belong to the day on which their hour begins."""

    def by_day(row: Transaction) -> tuple[date, str, str]:
        moment = row.timestamp
        if moment < raw_from:
            moment = moment.replace(minute=0, second=0, microsecond=0)
        return moment.astimezone(ZoneInfo(timezone)).date(), row.provider, row.model

    return [
        DailyModelCost(
            day=day,
            provider=provider,
            model=model,
            requests=len(rows),
            input_tokens=sum(row.input_tokens for row in rows),
            output_tokens=sum(row.output_tokens for row in rows),
            cost_usd=cost(rows),
            unpriced_requests=sum(1 for row in rows if row.cost_usd is None),
        )
        for (day, provider, model), rows in sorted(
            grouped(within(transactions, window), by_day).items()
        )
    ]


def error_rates(transactions: list[Transaction], window: Window) -> list[ModelErrorRate]:
    rates = []
    for (provider, model), rows in sorted(grouped(within(transactions, window), by_model).items()):
        errors = sum(1 for row in rows if is_error(row))
        rate_limited = sum(1 for row in rows if row.http_status_code == 429)
        rates.append(
            ModelErrorRate(
                provider=provider,
                model=model,
                requests=len(rows),
                errors=errors,
                rate_limited=rate_limited,
                error_rate=errors / len(rows),
                rate_limit_rate=rate_limited / len(rows),
            )
        )
    return rates


def by_model(row: Transaction) -> tuple[str, str]:
    return row.provider, row.model


def grouped(
    rows: Iterable[Transaction], key: Callable[[Transaction], Key]
) -> dict[Key, list[Transaction]]:
    groups: dict[Key, list[Transaction]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
