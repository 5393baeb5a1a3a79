"""What the sums of the billing ledger must be: its rows, added up again."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from ledger import Window
from tests.ledgers import NOW, Books
from tests.writers import sql

SUMMED = ("requests", "unpriced_requests", "vendor_cost", "charge_usd", "credits_deducted")
FOLDED = {
    "token_usage_hours": "token_usage_deltas",
    "token_usage_days": "token_usage_deltas",
    "token_usage_model_days": "token_usage_deltas",
    "token_usage_user_days": "token_usage_user_deltas",
}
"""Each level, and what waits to be folded into it."""
BINNED = ("token_usage_costs", "token_usage_all_costs")
WEEK = Window(start=NOW - timedelta(days=7), end=NOW + timedelta(minutes=5))


def recounted(books: Books) -> tuple[Any, ...]:
    """What the rows add up to."""
    [row] = sql(
        books.url,
        "SELECT count(*), count(*) FILTER (WHERE vendor_cost IS NULL),"
        " coalesce(sum(vendor_cost), 0), coalesce(sum(charge_usd), 0),"
        " coalesce(sum(credits_deducted), 0)"
        " FROM ledger.token_usage_ledger",
    )
    return row


def summed(books: Books) -> dict[str, tuple[Any, ...]]:
    """What each level says, with the deltas that are not in it yet."""
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in SUMMED)
    columns = ", ".join(SUMMED)
    return {
        name: sql(
            books.url,
            f"SELECT {sums} FROM (SELECT {columns} FROM ledger.{name} UNION ALL"
            f" SELECT {columns} FROM ledger.{deltas}) AS every",
        )[0]
        for name, deltas in FOLDED.items()
    }


def assert_sums_are_the_rows(books: Books) -> None:
    rows = recounted(books)
    assert summed(books) == dict.fromkeys(FOLDED, rows)
    for name in BINNED:
        [(priced,)] = sql(
            books.url,
            f"SELECT (SELECT coalesce(sum(requests), 0) FROM ledger.{name})"
            " + (SELECT coalesce(sum(cardinality(cost_bins)), 0) FROM ledger.token_usage_deltas)",
        )
        assert priced == rows[0] - rows[1]
    total = books.ledger.billing.provider_costs(WEEK)
    assert sum((cost.vendor_cost_usd for cost in total), Decimal(0)) == rows[2]
    assert sum(cost.requests for cost in total) == rows[0]


def waiting(books: Books) -> int:
    """How many deltas are not folded yet."""
    tables = sorted({*FOLDED.values()})
    return sum(sql(books.url, f"SELECT count(*) FROM ledger.{name}")[0][0] for name in tables)
