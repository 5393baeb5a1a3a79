"""The rows of the billing ledger's answers as the records that callers see.

A row is taken apart by place: its period, its keys, then MEASURES.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

from ledger.queries.query import Cells
from ledger.records.amounts import exactly
from ledger.records.billing import (
    GrossMargin,
    MarginDay,
    MarginTotals,
    ModelCost,
    ProviderCost,
    UserCost,
)
from ledger.records.telemetry import Answer, Item
from ledger.window import Window

_NOTHING: Final = (0, 0, 0, 0, Decimal(0), Decimal(0), 0)
"""The MEASURES of no calls."""


def answer(items: list[Item], window: Window) -> Answer[Item]:
    """A list that is exact."""
    return Answer(items, window=window, percentile_error=0.0, is_exact=True)


@exactly
def gross_margin(rows: Sequence[Cells], window: Window) -> GrossMargin:
    """Of the periods before and now."""
    by_period = {row[0]: row[1:] for row in rows}
    previous, current = (_margin(by_period.get(place, _NOTHING)) for place in (1, 2))
    was = previous["gross_margin_usd"]
    return GrossMargin(
        **current,
        window=window,
        previous=MarginTotals(**previous),
        change=float((current["gross_margin_usd"] - was) / abs(was)) if was else None,
    )


@exactly
def margin_days(rows: Sequence[Cells], dates: Sequence[date]) -> list[MarginDay]:
    """One for each of ``dates``, which rows name by their place."""
    by_period = {row[0]: row[1:] for row in rows}
    return [
        MarginDay(day=day, **_margin(by_period.get(place, _NOTHING)))
        for place, day in enumerate(dates, 1)
    ]


@exactly
def provider_costs(rows: Sequence[Cells]) -> list[ProviderCost]:
    """The dearest first."""
    whole = _cost(rows, 2)
    costs = [
        ProviderCost(provider=provider, share=_share(measures, whole), **_costs(measures))
        for _, provider, *measures in rows
    ]
    return sorted(costs, key=lambda cost: (-cost.vendor_cost_usd, cost.provider))


@exactly
def model_costs(rows: Sequence[Cells]) -> list[ModelCost]:
    """The dearest first."""
    whole = _cost(rows, 3)
    costs = [
        ModelCost(provider=provider, model=model, share=_share(measures, whole), **_costs(measures))
        for _, provider, model, *measures in rows
    ]
    return sorted(costs, key=lambda cost: (-cost.vendor_cost_usd, cost.provider, cost.model))


@exactly
def user_costs(rows: Sequence[Cells]) -> list[UserCost]:
    """In the order of the rows."""
    return [
        UserCost(user_id=user_id, external_id=external_id, **_costs(measures))
        for user_id, external_id, *measures in rows
    ]


def _margin(measures: Cells) -> dict[str, Any]:
    requests, unpriced, _, _, vendor_cost, charge, credits_deducted = measures
    return {
        "requests": requests,
        "unpriced_requests": unpriced,
        "revenue_usd": charge,
        "vendor_cost_usd": vendor_cost,
        "gross_margin_usd": charge - vendor_cost,
        "margin_rate": float((charge - vendor_cost) / charge) if charge else None,
        "credits_deducted": int(credits_deducted),
    }


def _costs(measures: Cells) -> Mapping[str, Any]:
    requests, unpriced, input_tokens, output_tokens, vendor_cost, charge, deducted = measures
    return {
        "requests": requests,
        "unpriced_requests": unpriced,
        "input_tokens": int(input_tokens),
        "output_tokens": int(output_tokens),
        "vendor_cost_usd": vendor_cost,
        "charge_usd": charge,
        "gross_margin_usd": charge - vendor_cost,
        "credits_deducted": int(deducted),
    }


def _cost(rows: Sequence[Cells], keys: int) -> Decimal:
    return sum((row[keys + 4] for row in rows), Decimal(0))


def _share(measures: Cells, whole: Decimal) -> float | None:
    return float(measures[4] / whole) if whole else None
