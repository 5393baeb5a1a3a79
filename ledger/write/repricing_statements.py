"""The statement of a repricing: the calls it looks at, with what was corrected of each."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
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
_corrections = _USAGE.alias("corrections")

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
_is_adjustment = _corrections.c.kind == literal("adjustment")
_own = (
    select(
        func.coalesce(
            func.array_agg(_corrections.c.price_id).filter(_is_adjustment),
            literal([], ARRAY(Uuid)),
            type_=ARRAY(Uuid),
        ).label("adjusted_prices"),
        func.coalesce(
            func.sum(_corrections.c.vendor_cost).filter(_is_adjustment), 0, type_=Money
        ).label("adjusted_cost"),
        func.coalesce(func.sum(_corrections.c.credits_deducted).filter(_is_adjustment), 0).label(
            "adjusted_credits"
        ),
        func.max(_corrections.c.margin_multiplier)
        .filter(_is_adjustment)
        .label("adjusted_multiplier"),
        func.count().filter(not_(_is_adjustment)).label("refunds"),
    )
    .where(
        _corrections.c.user_id == _calls.c.user_id,
        _corrections.c.adjusts_id == _calls.c.id,
        # As the index has it.
        _corrections.c.kind != literal("usage"),
    )
    .lateral("own")
)

BOOKED_CALLS: Final = (
    select(*_calls.c, *_own.c, Provider.name.label("provider"))
    .select_from(_calls.join(_own, true()).join(Provider, Provider.id == _calls.c.provider_id))
    .order_by(_calls.c.created_at, _calls.c.id)
    .limit(_limit)
)
"""The next calls whose cost a price says, or should, with what was corrected of each so far."""
