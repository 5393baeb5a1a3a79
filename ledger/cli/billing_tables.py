"""The answers of the billing ledger as tables and charts for a terminal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from rich.text import Text

from ledger.cli.chart import Bar, bar_chart, labels, merged, sparkline
from ledger.cli.console import printable
from ledger.cli.figures import NONE, count, counted, percent, usd
from ledger.cli.tables import facts, plain_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.table import Table

    from ledger.cli.chart import Canvas
    from ledger.records.billing import (
        CostDistribution,
        Costs,
        GrossMargin,
        MarginDay,
        ModelCost,
        ProviderCost,
        UserCost,
    )
    from ledger.records.telemetry import Answer

_COSTS = ("requests", "unpriced", "cost USD", "charged USD", "margin USD")


def margin_table(margin: GrossMargin) -> Table:
    """A window's margin beside the one before."""
    table = plain_table(names=("",), numbers=("now", "before"))
    before = margin.previous
    rows = (
        ("requests", count(margin.requests), count(before.requests)),
        ("revenue USD", usd(margin.revenue_usd), usd(before.revenue_usd)),
        ("cost USD", usd(margin.vendor_cost_usd), usd(before.vendor_cost_usd)),
        ("margin USD", usd(margin.gross_margin_usd), usd(before.gross_margin_usd)),
        ("margin rate", _share(margin.margin_rate), _share(before.margin_rate)),
        ("credits", count(margin.credits_deducted), count(before.credits_deducted)),
        ("unpriced", count(margin.unpriced_requests), count(before.unpriced_requests)),
    )
    for row in rows:
        table.add_row(*row)
    table.caption = f"change of the margin: {_share(margin.change)}"
    return table


def provider_cost_table(costs: Answer[ProviderCost]) -> Table:
    """What each provider cost."""
    table = plain_table(names=("provider",), numbers=(*_COSTS, "share"))
    for cost in costs:
        table.add_row(Text(printable(cost.provider)), *_costs(cost), _share(cost.share))
    return table


def model_cost_table(costs: Answer[ModelCost]) -> Table:
    """What each model cost."""
    table = plain_table(names=("provider", "model"), numbers=(*_COSTS, "share"))
    for cost in costs:
        names = (Text(printable(name)) for name in (cost.provider, cost.model))
        table.add_row(*names, *_costs(cost), _share(cost.share))
    return table


def user_cost_table(costs: Answer[UserCost]) -> Table:
    """What each user cost."""
    table = plain_table(names=("user", "external id"), numbers=_COSTS)
    for cost in costs:
        table.add_row(str(cost.user_id), Text(printable(cost.external_id or NONE)), *_costs(cost))
    return table


def distribution_table(spread: CostDistribution) -> Table:
    """The percentiles of what calls cost."""
    return facts(
        (
            ("requests", f"{count(spread.requests)}, {counted(spread.free_requests, 'free call')}"),
            ("average", _usd(spread.average_usd)),
            ("median", _usd(spread.median_usd)),
            ("p90", _usd(spread.p90_usd)),
            ("p95", _usd(spread.p95_usd)),
            ("p99", _usd(spread.p99_usd)),
            *(
                (f"up to {bucket.up_to_usd.normalize():f} USD", counted(bucket.requests, "request"))
                for bucket in spread.buckets
            ),
        )
    )


def trend_chart(days: Answer[MarginDay], canvas: Canvas) -> Iterator[Text]:
    """Revenue as bars with the cost as their part, and the margin below."""
    runs = merged(days, canvas.plot_columns)
    revenue, cost, margin = (
        [float(_total(getattr(day, name) for day in run)) for run in runs]
        for name in ("revenue_usd", "vendor_cost_usd", "gross_margin_usd")
    )
    each = "a day" if len(runs[0]) == 1 else f"{len(runs[0])} days"
    whole, spent, left = (
        usd(_total(getattr(day, name) for day in days))
        for name in ("revenue_usd", "vendor_cost_usd", "gross_margin_usd")
    )
    yield Text(f"revenue {whole} USD, of which cost {spent} USD; each bar {each}")
    yield from bar_chart(
        [
            Bar(amount=max(charged, 0), part=min(max(paid, 0), max(charged, 0)))
            for charged, paid in zip(revenue, cost, strict=True)
        ],
        canvas,
    )
    yield labels(days[0].day.isoformat(), days[-1].day.isoformat(), canvas, len(runs))
    yield Text(f"margin {left} USD; a gap where there is none")
    yield sparkline([max(amount, 0) for amount in margin], canvas)


def _costs(costs: Costs) -> tuple[str, ...]:
    return (
        count(costs.requests),
        count(costs.unpriced_requests),
        usd(costs.vendor_cost_usd),
        usd(costs.charge_usd),
        usd(costs.gross_margin_usd),
    )


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


def _share(share: float | None) -> str:
    return NONE if share is None else percent(share)


def _usd(amount: Decimal | None) -> str:
    return NONE if amount is None else f"{amount:,.6f} USD"
