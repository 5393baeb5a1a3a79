"""What the billing ledger must answer, from all of its rows, in the most naive Python."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from ledger import Window
from ledger.records.billing import (
    GrossMargin,
    MarginDay,
    MarginTotals,
    ModelCost,
    ProviderCost,
    UserCost,
)
from tests.writers import sql

Key = TypeVar("Key", bound=Hashable)

COLUMNS = (
    "kind",
    "user_id",
    "project_id",
    "provider",
    "model",
    "tier",
    "status",
    "created_at",
    "adjusts_created_at",
    "input_tokens",
    "output_tokens",
    "vendor_cost",
    "charge_usd",
    "credits_deducted",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of token_usage_ledger."""

    kind: str
    user_id: UUID
    project_id: UUID | None
    provider: str
    model: str
    tier: str
    status: str
    created_at: datetime
    adjusts_created_at: datetime | None
    input_tokens: int
    output_tokens: int
    vendor_cost: Decimal | None
    charge_usd: Decimal | None
    credits_deducted: int | None


class Rows(list[Row]):
    """All rows; hypothesis writes its arguments down."""

    def __repr__(self) -> str:
        return f"<{len(self)} rows>"


def rows_of(url: str) -> Rows:
    """All rows, as they are stored."""
    names = {"provider": "p.name", "model": "u.model_id"}
    columns = ", ".join(names.get(name, f"u.{name}") for name in COLUMNS)
    found = sql(
        url,
        f"SELECT {columns} FROM ledger.token_usage_ledger u"
        " JOIN ledger.providers p ON p.id = provider_id",
    )
    return Rows(Row(**dict(zip(COLUMNS, row, strict=True))) for row in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which rows are asked about, and where corrections count."""

    filters: dict[str, Any]
    restated: bool = False

    def within(self, rows: Iterable[Row], start: datetime, end: datetime) -> list[Row]:
        return [row for row in rows if self._is_asked(row) and start <= self._moment(row) < end]

    def _is_asked(self, row: Row) -> bool:
        return all(
            value is None or getattr(row, name) == value for name, value in self.filters.items()
        )

    def _moment(self, row: Row) -> datetime:
        if self.restated and row.adjusts_created_at is not None:
            return row.adjusts_created_at
        return row.created_at


def total(rows: Iterable[Row], name: str) -> Decimal:
    return sum((Decimal(getattr(row, name) or 0) for row in rows), Decimal(0))


def margin(rows: list[Row]) -> dict[str, Any]:
    made = [row for row in rows if row.kind == "usage"]
    revenue, cost = total(rows, "charge_usd"), total(rows, "vendor_cost")
    return {
        "requests": len(made),
        "unpriced_requests": sum(row.vendor_cost is None for row in made),
        "revenue_usd": revenue,
        "vendor_cost_usd": cost,
        "gross_margin_usd": revenue - cost,
        "margin_rate": float((revenue - cost) / revenue) if revenue else None,
        "credits_deducted": int(total(rows, "credits_deducted")),
    }


def gross_margin(rows: list[Row], asked: Question, window: Window) -> GrossMargin:
    before = margin(asked.within(rows, window.start - window.length, window.start))
    now = margin(asked.within(rows, window.start, window.end))
    was = before["gross_margin_usd"]
    return GrossMargin(
        **now,
        window=window,
        previous=MarginTotals(**before),
        change=float((now["gross_margin_usd"] - was) / abs(was)) if was else None,
    )


def margin_days(rows: list[Row], asked: Question, window: Window, timezone: str) -> list[MarginDay]:
    zone = ZoneInfo(timezone)
    days = []
    day = window.start.astimezone(zone).date()
    while window.length and datetime.combine(day, datetime.min.time(), zone) < window.end:
        begins = datetime.combine(day, datetime.min.time(), zone)
        ends = datetime.combine(day + timedelta(days=1), datetime.min.time(), zone)
        of_day = asked.within(rows, max(begins, window.start), min(ends, window.end))
        days.append(MarginDay(day=day, **margin(of_day)))
        day += timedelta(days=1)
    return days


def _costs(rows: list[Row], whole: Decimal) -> dict[str, Any]:
    found = margin(rows)
    cost = found["vendor_cost_usd"]
    return {
        "requests": found["requests"],
        "unpriced_requests": found["unpriced_requests"],
        "input_tokens": int(total(rows, "input_tokens")),
        "output_tokens": int(total(rows, "output_tokens")),
        "vendor_cost_usd": cost,
        "charge_usd": found["revenue_usd"],
        "gross_margin_usd": found["gross_margin_usd"],
        "credits_deducted": found["credits_deducted"],
        "share": float(cost / whole) if whole else None,
    }


def _grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return {key: some for key, some in groups.items() if any(_costs(some, Decimal(0)).values())}


def provider_costs(rows: list[Row], asked: Question, window: Window) -> list[ProviderCost]:
    found = asked.within(rows, window.start, window.end)
    whole = total(found, "vendor_cost")
    costs = [
        ProviderCost(provider=provider, **_costs(some, whole))
        for provider, some in _grouped(found, lambda row: row.provider).items()
    ]
    return sorted(costs, key=lambda cost: (-cost.vendor_cost_usd, cost.provider))


def model_costs(rows: list[Row], asked: Question, window: Window) -> list[ModelCost]:
    found = asked.within(rows, window.start, window.end)
    whole = total(found, "vendor_cost")
    costs = [
        ModelCost(provider=provider, model=model, **_costs(some, whole))
        for (provider, model), some in _grouped(
            found, lambda row: (row.provider, row.model)
        ).items()
    ]
    return sorted(costs, key=lambda cost: (-cost.vendor_cost_usd, cost.provider, cost.model))


def user_costs(rows: list[Row], asked: Question, window: Window, limit: int) -> list[UserCost]:
    found = asked.within(rows, window.start, window.end)
    costs = []
    for user_id, some in _grouped(found, lambda row: row.user_id).items():
        values = _costs(some, Decimal(0))
        del values["share"]
        costs.append(UserCost(user_id=user_id, external_id=None, **values))
    return sorted(costs, key=lambda cost: (-cost.vendor_cost_usd, cost.user_id))[:limit]


def costs_of_calls(rows: list[Row], asked: Question, window: Window) -> list[Decimal]:
    return sorted(
        row.vendor_cost
        for row in asked.within(rows, window.start, window.end)
        if row.kind == "usage" and row.vendor_cost is not None
    )
