"""Books of a few calls in both ledgers, and ways to falsify what nobody may change."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from ledger import Window
from ledger.records.billing_reconciliation import BillingReconciliation
from ledger.records.prices import ModelPrice
from tests.ledgers import NOW, PRICE, Books
from tests.writers import sql, superuser

COST = Decimal("0.00325")
DAY = timedelta(days=1)
LAST = Decimal("0.000000000001")
FOLD = "SELECT ledger.fold_token_usage_deltas(), ledger.fold_token_usage_user_deltas()"
WINDOW = Window(start=NOW - timedelta(days=5), end=NOW + timedelta(hours=1))
USAGE = "ledger.token_usage_ledger"
HOURS = "token_usage_hours"


def price(**changed: Any) -> ModelPrice:
    values = {name: getattr(PRICE, name) for name in PRICE.__dataclass_fields__}
    return ModelPrice(**{**values, **changed})


DEARER = price(effective_from=NOW - timedelta(days=1), input_usd_per_million=Decimal(5))


def book(books: Books, *request_ids: str, **what_matters: Any) -> None:
    """Book calls, each of which is in the telemetry ledger, too."""
    usages = [books.usage(request_id, **what_matters) for request_id in request_ids]
    assert books.ledger.billing.record_usages(usages).inserted == len(usages)
    for usage in usages:
        ask(books, usage.request_id, user_id=usage.user_id, timestamp=usage.created_at)


def ask(books: Books, request_id: str | None = "r", **what_matters: Any) -> None:
    """A call in the telemetry ledger."""
    books.ledger.telemetry.insert_transaction(
        {
            "user_id": books.user,
            "request_id": request_id,
            "timestamp": NOW - timedelta(minutes=1),
            "provider": "openai",
            "model": "gpt-4o",
            "latency_ms": 1,
            **what_matters,
        }
    )


def reconciled(books: Books, **options: Any) -> BillingReconciliation:
    found = books.ledger.billing.reconcile(WINDOW, **options)
    assert isinstance(found, BillingReconciliation)
    return found


def tamper(books: Books, statement: str, table: str = USAGE) -> None:
    """Change what nobody may change, as only who owns the table can."""
    with superuser(books.url) as owner:
        owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
        owner.execute(statement.encode())


def unchecked(books: Books, *names: str) -> None:
    for name in names:
        sql(books.url, f"ALTER TABLE {USAGE} DROP CONSTRAINT token_usage_ledger_{name}_check")


def refund(books: Books, request_id: str) -> None:
    books.ledger.billing.refund(
        books.user, request_id, credits=1, refund_id=f"refund of {request_id}"
    )
