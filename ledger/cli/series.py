"""A time series drawn: requests with their errors as bars, latency and cost below."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.text import Text

from ledger.cli.chart import PART_STYLE, WHOLE_STYLE, Bar, bar_chart, labels, merged, sparkline
from ledger.cli.durations import spoken
from ledger.cli.figures import count, milliseconds, usd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ledger.cli.chart import Canvas
    from ledger.records.telemetry import Answer, TimeBucket


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one bar stands for: a bucket, or neighbouring ones."""

    start: datetime
    requests: int
    errors: int
    highest_p95_ms: float | None
    cost_usd: Decimal

    @classmethod
    def of(cls, buckets: Sequence[TimeBucket]) -> Step:
        """The buckets together; of percentiles, which do not add up, the highest."""
        p95s = [bucket.p95_latency_ms for bucket in buckets if bucket.p95_latency_ms is not None]
        return cls(
            start=buckets[0].bucket_start,
            requests=sum(bucket.requests for bucket in buckets),
            errors=sum(bucket.errors for bucket in buckets),
            highest_p95_ms=max(p95s, default=None),
            cost_usd=sum((bucket.cost_usd for bucket in buckets), Decimal(0)),
        )


def drawn(series: Answer[TimeBucket], canvas: Canvas) -> Iterator[Text]:
    """The lines of the chart of a series that is not empty."""
    runs = merged(series, canvas.plot_columns)
    steps = [Step.of(run) for run in runs]
    width = _bucket_width(series) * len(runs[0])
    yield _legend(steps, width, canvas)
    yield from bar_chart([Bar(amount=step.requests, part=step.errors) for step in steps], canvas)
    yield labels(_label(steps[0].start, width), _label(steps[-1].start, width), canvas, len(steps))
    errors = [step.errors for step in steps]
    if any(errors):
        yield Text(f"errors, at most {count(max(errors))} in a bar")
        yield sparkline(errors, canvas, style=PART_STYLE)
    p95s = [step.highest_p95_ms for step in steps]
    if (highest := max((p95 for p95 in p95s if p95 is not None), default=None)) is not None:
        yield Text(f"p95 latency, at most {milliseconds(highest)} ms")
        yield sparkline(p95s, canvas)
    costs = [float(step.cost_usd) for step in steps]
    yield Text(f"cost, {usd(sum((step.cost_usd for step in steps), Decimal(0)))} USD in all")
    yield sparkline(costs, canvas)


def _legend(steps: Sequence[Step], width: timedelta, canvas: Canvas) -> Text:
    block = canvas.blocks[-1]
    requests, errors = sum(s.requests for s in steps), sum(s.errors for s in steps)
    legend = Text()
    if canvas.has_colour:
        legend.append(f"{block} ", style=WHOLE_STYLE)
    legend.append(f"{count(requests)} requests, ")
    if canvas.has_colour:
        legend.append(f"{block} ", style=PART_STYLE)
    legend.append(f"{count(errors)} of them errors; each bar {spoken(width)}")
    return legend


def _bucket_width(series: Sequence[TimeBucket]) -> timedelta:
    if len(series) == 1:
        return timedelta(0)
    return series[1].bucket_start - series[0].bucket_start


def _label(start: datetime, width: timedelta) -> str:
    return (
        f"{start:%m-%d %H:%M}"
        if width % timedelta(minutes=1) == timedelta(0)
        else f"{start:%H:%M:%S}"
    )
