"""A row that corrects a booked call: the difference, under the call's own names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import DateTime, Text, column, func, literal_column, select
from sqlalchemy import table as lightweight_table

from ledger.errors import InvalidArgument
from ledger.records.amounts import exactly
from ledger.records.completion import EPOCH, MILLISECOND
from ledger.records.identity import derived_id
from ledger.write.commands import execute

if TYPE_CHECKING:
    from decimal import Decimal
    from uuid import UUID

    from sqlalchemy import Row

    from ledger.write.commands import Steps

_LOCK: Final = 5_202_611_210_003

_ALONE: Final = select(func.pg_advisory_xact_lock(_LOCK))
_NOW: Final = select(func.clock_timestamp(type_=DateTime(timezone=True)).label("now"))
_IS_HELD: Final = select(
    func.current_setting("transaction_isolation", type_=Text).label("isolation"),
    select(column("pid"))
    .select_from(lightweight_table("pg_locks"))
    .where(
        literal_column(
            "locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = 1"
            f" AND (classid::bigint << 32) | objid::bigint = {_LOCK}"
        )
    )
    .exists()
    .label("is_held"),
)
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


def alone() -> Steps[None]:
    """Wait until nobody else works out corrections, until the transaction ends.

    Two that start from the same sums would each book the whole difference. So what the other
    one committed must be seen then: raises InvalidArgument in a caller's transaction that
    keeps to an older snapshot, and where there is none to hold the lock.
    """
    yield from execute(_ALONE)
    found = (yield from execute(_IS_HELD)).rows[0]
    if not found.is_held or found.isolation not in {"read committed", "read uncommitted"}:
        how = found.isolation.upper() if found.is_held else "AUTOCOMMIT"
        raise InvalidArgument(
            f"the connection is {how}, in which a correction made elsewhere at the same time is"
            " not seen; bind the ledger to a transaction at READ COMMITTED"
        )


def moment_of_booking() -> Steps[datetime]:
    """The present moment by the database's clock, to the millisecond."""
    now: datetime = (yield from execute(_NOW)).rows[0].now.astimezone(UTC)
    return EPOCH + (now - EPOCH) // MILLISECOND * MILLISECOND


@exactly
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
