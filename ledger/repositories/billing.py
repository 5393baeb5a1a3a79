"""The billing ledger: what each call cost, what it was charged, and the margin that is left."""

from __future__ import annotations

from ledger.queries import billing, prices
from ledger.queries.unpriced import unpriced_usage
from ledger.repositories.billing_export import AsyncBillingExport, BillingExport
from ledger.repositories.billing_reconcile import AsyncBillingReconciling, BillingReconciling
from ledger.repositories.billing_writes import AsyncBillingWrites, BillingWrites
from ledger.repositories.methods import reads, writes
from ledger.repositories.repository import AsyncRepository, Repository
from ledger.write.prices import add_prices
from ledger.write.refunds import refund


class _Billing:
    """What is the same called and awaited."""

    add_prices = writes(add_prices)
    refund = writes(refund)
    model_prices = reads(prices.model_prices)
    price = reads(prices.price)
    unpriced_usage = reads(unpriced_usage)
    gross_margin = reads(billing.gross_margin)
    provider_costs = reads(billing.provider_costs)
    model_costs = reads(billing.model_costs)
    user_costs = reads(billing.user_costs)
    margin_trend = reads(billing.margin_trend)
    cost_distribution = reads(billing.cost_distribution)


class Billing(_Billing, Repository, BillingWrites, BillingExport, BillingReconciling):
    """The billing ledger.

    Every method raises SchemaNotReady where the database has no ledger, and
    DatabaseUnavailable where it cannot be reached.
    """


class AsyncBilling(
    _Billing, AsyncRepository, AsyncBillingWrites, AsyncBillingExport, AsyncBillingReconciling
):
    """The billing ledger, awaited."""
