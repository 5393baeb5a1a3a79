"""The answers of the telemetry ledger as tables for a terminal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from ledger.cli.console import printable
from ledger.cli.figures import count, counted, milliseconds, percent, usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ledger.records.telemetry import (
        Answer,
        DailyModelCost,
        ModelErrorRate,
        ModelLatency,
        Overview,
    )


def plain_table(*, names: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table with columns of names, and then right-aligned ones of numbers."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name, overflow="fold")
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    return table


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """What is so, line by line."""
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, Text(value))
    return table


def overview_table(overview: Overview) -> Table:
    """A window in figures."""
    reasoning = count(overview.reasoning_tokens)
    output = f"{count(overview.output_tokens)}, {reasoning} of them reasoning"
    return facts(
        (
            ("requests", count(overview.requests)),
            ("errors", f"{count(overview.errors)}, {percent(overview.error_rate)}"),
            ("rate limited", f"{count(overview.rate_limited)} of the errors"),
            ("average latency", f"{milliseconds(overview.average_latency_ms)} ms"),
            ("p50 latency", f"{milliseconds(overview.p50_latency_ms)} ms"),
            ("p95 latency", f"{milliseconds(overview.p95_latency_ms)} ms"),
            ("p99 latency", f"{milliseconds(overview.p99_latency_ms)} ms"),
            ("input tokens", count(overview.input_tokens)),
            ("output tokens", output),
            ("cost", f"{usd(overview.cost_usd)} USD{_unpriced(overview.unpriced_requests)}"),
        ),
    )


def latency_table(latencies: Answer[ModelLatency]) -> Table:
    """How long each model took."""
    table = plain_table(
        names=("provider", "model"),
        numbers=("requests", "average ms", "p50 ms", "p95 ms", "p99 ms"),
    )
    for latency in latencies:
        table.add_row(
            Text(printable(latency.provider)),
            Text(printable(latency.model)),
            count(latency.requests),
            milliseconds(latency.average_latency_ms),
            milliseconds(latency.p50_latency_ms),
            milliseconds(latency.p95_latency_ms),
            milliseconds(latency.p99_latency_ms),
        )
    return table


def cost_table(costs: Answer[DailyModelCost], timezone: str) -> Table:
    """What each model cost on each day, and all of them together."""
    table = plain_table(
        names=(f"day in {timezone}", "provider", "model"),
        numbers=("requests", "unpriced", "input tokens", "output tokens", "cost USD"),
    )
    table.show_footer = True
    day_before = None
    for cost in costs:
        if day_before not in {None, cost.day}:
            table.add_section()
        table.add_row(
            cost.day.isoformat() if cost.day != day_before else "",
            Text(printable(cost.provider)),
            Text(printable(cost.model)),
            count(cost.requests),
            count(cost.unpriced_requests),
            count(cost.input_tokens),
            count(cost.output_tokens),
            usd(cost.cost_usd),
        )
        day_before = cost.day
    totals = (
        "total",
        "",
        "",
        count(sum(cost.requests for cost in costs)),
        count(sum(cost.unpriced_requests for cost in costs)),
        count(sum(cost.input_tokens for cost in costs)),
        count(sum(cost.output_tokens for cost in costs)),
        usd(sum((cost.cost_usd for cost in costs), Decimal(0))),
    )
    for column, total in zip(table.columns, totals, strict=True):
        column.footer = total
    return table


def error_table(rates: Answer[ModelErrorRate]) -> Table:
    """How often each model failed."""
    table = plain_table(
        names=("provider", "model"),
        numbers=("requests", "errors", "error rate", "rate limited", "rate limit rate"),
    )
    for rate in rates:
        table.add_row(
            Text(printable(rate.provider)),
            Text(printable(rate.model)),
            count(rate.requests),
            count(rate.errors),
            percent(rate.error_rate),
            count(rate.rate_limited),
            percent(rate.rate_limit_rate),
        )
    return table


def _unpriced(requests: int) -> str:
    return f", without {counted(requests, 'unpriced request')}" if requests else ""
