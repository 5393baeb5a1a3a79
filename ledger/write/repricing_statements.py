"""The statement of a repricing: the calls it looks at, with what was adjusted of each."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Select,
    Uuid,
    bindparam,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    union_all,
)

from ledger.models.base import Money
from ledger.models.billing import TokenUsage
from ledger.models.tenancy import Provider

_USAGE: Final = TokenUsage.__table__
_adjustments = _USAGE.alias("adjustments")

_moment = bindparam("moment", type_=DateTime(timezone=True))
_last = bindparam("last", type_=Uuid())
_end = bindparam("end", type_=DateTime(timezone=True))
_limit = bindparam("limit", type_=BigInteger())


def _some(which: ColumnElement[bool]) -> Select[Any]:
    """The next calls of one index, in their order."""
    return (
        select(_USAGE)
        .where(
            which,
            _USAGE.c.kind == literal("usage"),
            _USAGE.c.pricing_status != literal("stated"),
            _USAGE.c.created_at >= _moment,
            _USAGE.c.created_at < _end,
            or_(_USAGE.c.created_at > _moment, _USAGE.c.id > _last),
        )
        .order_by(_USAGE.c.created_at, _USAGE.c.id)
        .limit(_limit)
    )


_succeeded = _USAGE.c.status == literal("success")
_calls = union_all(
    select(_some(_succeeded).subquery("succeeded")),
    select(_some(not_(_succeeded)).subquery("failed")),
).subquery("calls")
_own = (
    select(
        func.count().label("adjustments"),
        func.coalesce(func.sum(_adjustments.c.vendor_cost), 0, type_=Money).label("adjusted_cost"),
        func.coalesce(func.sum(_adjustments.c.credits_deducted), 0).label("adjusted_credits"),
        func.max(_adjustments.c.margin_multiplier).label("adjusted_multiplier"),
    )
    .where(
        _adjustments.c.user_id == _calls.c.user_id,
        _adjustments.c.adjusts_id == _calls.c.id,
        _adjustments.c.kind == literal("adjustment"),
        # As the index has it.
        _adjustments.c.kind != literal("usage"),
    )
    .lateral("own")
)

BOOKED_CALLS: Final = (
    select(*_calls.c, *_own.c, Provider.name.label("provider"))
    .select_from(_calls.join(_own, true()).join(Provider, Provider.id == _calls.c.provider_id))
    .order_by(_calls.c.created_at, _calls.c.id)
    .limit(_limit)
)
"""The next calls whose cost a price says, or should, with what was adjusted of each so far."""
