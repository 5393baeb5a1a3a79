"""From a usage to the row that it is booked as: priced, charged, and its names resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ledger.errors import UnknownReference
from ledger.pricing.charges import charge
from ledger.records.prices import Priced

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from ledger.records.prices import Unpriced
    from ledger.records.usage import Charging, Usage
    from ledger.write.catalogues import Catalogues

_AS_SENT: Final = (
    "user_id",
    "id",
    "request_id",
    "operation",
    "project_id",
    "status",
    "service_tier",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage_source",
    "latency_ms",
    "created_at",
    "attributes",
)
_NO_AMOUNTS: Final[Mapping[str, Any]] = {
    "price_id": None,
    "vendor_cost": None,
    "credits_deducted": None,
    "charge_usd": None,
    "gross_margin_usd": None,
}


def booked(usage: Usage, known: Catalogues, charging: Charging) -> dict[str, Any]:
    """The values of the row, and `sent_tier` and `sent_cost` as they were sent.

    A call whose price or multiplier nobody has said is booked as unpriced, with the reason.
    Raises UnknownReference, and InvalidRecord for a cost that no column holds.
    """
    if usage.user_id not in known.tiers_of_users:
        raise _unknown("user_id", str(usage.user_id), "ledger.tenancy.upsert_user")
    if usage.provider not in known.providers:
        raise _unknown("provider", repr(usage.provider), "ledger.tenancy.upsert_provider")
    if usage.project_id is not None and usage.project_id not in known.projects:
        raise _unknown("project_id", str(usage.project_id), "ledger.tenancy.upsert_project")
    tier = usage.tier or known.tiers_of_users[usage.user_id]
    return {
        **{name: getattr(usage, name) for name in _AS_SENT},
        "kind": "usage",
        "provider_id": known.providers[usage.provider],
        "model_id": usage.model,
        "tier": tier,
        "credit_value_usd": charging.credit_value_usd,
        "sent_tier": usage.tier,
        "sent_cost": usage.vendor_cost,
        **_amounts(usage, known, charging, known.multiplier(tier, usage.created_at)),
    }


def _amounts(
    usage: Usage, known: Catalogues, charging: Charging, multiplier: Decimal | None
) -> dict[str, Any]:
    by: Mapping[str, Any] = {"pricing_status": "stated", "price_id": None}
    cost = usage.vendor_cost
    if cost is None:
        found = _price(usage, known)
        if not isinstance(found, Priced):
            return _unpriced(found.reason, multiplier)
        cost = found.cost_usd
        by = {"pricing_status": "priced", "price_id": found.price.id}
    if multiplier is None:
        return {**_unpriced("unknown_tier", multiplier), "stated_cost": usage.vendor_cost}
    charged = charge(
        cost,
        margin_multiplier=multiplier,
        credit_value_usd=charging.credit_value_usd,
        status=usage.status,
        charges_failures=charging.charges_failures,
    )
    return {
        **by,
        "unpriced_reason": None,
        "margin_multiplier": multiplier,
        "vendor_cost": cost,
        "credits_deducted": charged.credits_deducted,
        "charge_usd": charged.charge_usd,
        "gross_margin_usd": charged.gross_margin_usd,
    }


def _price(usage: Usage, known: Catalogues) -> Priced | Unpriced:
    return known.prices.price(
        usage.tokens,
        provider=usage.provider,
        model=usage.model,
        service_tier=usage.service_tier,
        at=usage.created_at,
    )


def _unpriced(reason: str, multiplier: Decimal | None) -> dict[str, Any]:
    return {
        **_NO_AMOUNTS,
        "pricing_status": "unpriced",
        "unpriced_reason": reason,
        "margin_multiplier": multiplier,
    }


def _unknown(field: str, value: str, remedy: str) -> UnknownReference:
    return UnknownReference(f"{field} {value}: the ledger does not know it; call {remedy} first")
