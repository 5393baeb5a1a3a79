"""A row that corrects a booked call: the difference, under the call's own names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import DateTime, func, select

from ledger.records.completion import EPOCH, MILLISECOND
from ledger.records.identity import derived_id
from ledger.write.commands import execute

if TYPE_CHECKING:
    from decimal import Decimal
    from uuid import UUID

    from sqlalchemy import Row

    from ledger.write.commands import Steps

_LOCK: Final = 5_202_611_210_003

LOCK: Final = select(func.pg_advisory_xact_lock(_LOCK))
"""Held while a correction is worked out and booked: two would each start from the same sums."""

_NOW: Final = select(func.clock_timestamp(type_=DateTime(timezone=True)).label("now"))
_AS_CALLED: Final = (
    "user_id",
    "provider_id",
    "model_id",
    "operation",
    "project_id",
    "status",
    "tier",
    "service_tier",
    "usage_source",
    "credit_value_usd",
)
_COUNTED_ALREADY: Final = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "reasoning_tokens": 0,
}


def moment_of_booking() -> Steps[datetime]:
    """The present moment by the database's clock, to the millisecond."""
    now: datetime = (yield from execute(_NOW)).rows[0].now.astimezone(UTC)
    return EPOCH + (now - EPOCH) // MILLISECOND * MILLISECOND


def correction(  # noqa: PLR0913 - what a correction says
    call: Row[Any],
    *,
    kind: Literal["adjustment", "refund"],
    request_id: str,
    at: datetime,
    price_id: UUID | None,
    vendor_cost: Decimal,
    credits_deducted: int,
    margin_multiplier: Decimal,
    attributes: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The values of the row; amounts are signed, and what they add to the call's."""
    charge_usd = credits_deducted * call.credit_value_usd
    return {
        **{name: getattr(call, name) for name in _AS_CALLED},
        **_COUNTED_ALREADY,
        "id": derived_id((at - EPOCH) // MILLISECOND, call.user_id, request_id),
        "request_id": request_id,
        "kind": kind,
        "adjusts_id": call.id,
        "adjusts_created_at": call.created_at,
        "pricing_status": "priced" if price_id else "stated",
        "unpriced_reason": None,
        "price_id": price_id,
        "vendor_cost": vendor_cost,
        "margin_multiplier": margin_multiplier,
        "credits_deducted": credits_deducted,
        "charge_usd": charge_usd,
        "gross_margin_usd": charge_usd - vendor_cost,
        "created_at": at,
        "attributes": attributes or {},
        "position": 0,
    }
