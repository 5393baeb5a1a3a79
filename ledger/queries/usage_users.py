"""The statement that sums usage by user: each user's rows from the index that leads to them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    bindparam,
    cast,
    func,
    not_,
    select,
    true,
    union_all,
)

from ledger.models.billing import TokenUsage
from ledger.models.tenancy import User
from ledger.queries.columns import END, START
from ledger.queries.usage_shape import Rows
from ledger.queries.usage_sums import (
    AMOUNTS,
    COUNTED,
    COUNTS,
    MEASURES,
    UNCOUNTED,
    WHICH,
    conditions,
)

if TYPE_CHECKING:
    from sqlalchemy import Select

    from ledger.queries.query import AnySelect
    from ledger.queries.usage_shape import SumsShape

_USAGE: Final = TokenUsage.__table__
_USERS: Final = User.__table__

LIMIT: Final = bindparam("limit", type_=BigInteger())


@lru_cache(maxsize=256)
def costs_of_users(shape: SumsShape) -> AnySelect:
    """The dearest users: id, external id, MEASURES."""
    made = _of_few(shape) if {"user_id", "project_id"} & {*shape.filters} else _of_each(shape)
    every = union_all(made, _corrections(shape)).subquery("parts")
    summed = (
        select(
            every.c.user_id,
            *(cast(func.sum(every.c[name]), BigInteger).label(name) for name in COUNTS[:2]),
            *(func.sum(every.c[name]).label(name) for name in MEASURES[2:]),
        )
        .group_by(every.c.user_id)
        .order_by(func.sum(every.c.vendor_cost).desc(), every.c.user_id)
        .limit(LIMIT)
        .subquery("dearest")
    )
    return select(
        summed.c.user_id, _USERS.c.external_id, *(summed.c[name] for name in MEASURES)
    ).select_from(summed.join(_USERS, _USERS.c.id == summed.c.user_id))


def _of_each(shape: SumsShape) -> AnySelect:
    """User by user: an index by time alone would have every call looked up in the table."""
    own = _sums(shape, COUNTED).where(
        _USAGE.c.user_id == _USERS.c.id, WHICH[Rows.MADE], _in_time(_USAGE.c.created_at)
    )
    found = own.correlate(_USERS).lateral("own")
    return (
        select(_USERS.c.id.label("user_id"), *(found.c[name] for name in MEASURES))
        .select_from(_USERS.join(found, true()))
        .where(found.c.requests > 0)
    )


def _of_few(shape: SumsShape) -> AnySelect:
    return (
        _sums(shape, COUNTED, _USAGE.c.user_id)
        .where(WHICH[Rows.MADE], _in_time(_USAGE.c.created_at))
        .group_by(_USAGE.c.user_id)
    )


def _corrections(shape: SumsShape) -> AnySelect:
    moment = _USAGE.c.adjusts_created_at if shape.is_restated else _USAGE.c.created_at
    return (
        _sums(shape, UNCOUNTED, _USAGE.c.user_id)
        .where(not_(WHICH[Rows.MADE]), _in_time(moment))
        .group_by(_USAGE.c.user_id)
    )


def _sums(
    shape: SumsShape, counts: tuple[ColumnElement[Any], ...], *keys: ColumnElement[Any]
) -> Select[Any]:
    return select(
        *keys,
        *(each.label(name) for name, each in zip(COUNTS, counts, strict=True)),
        *(func.coalesce(func.sum(_USAGE.c[name]), 0).label(name) for name in AMOUNTS),
    ).where(*conditions(shape, _USAGE))


def _in_time(moment: ColumnElement[Any]) -> ColumnElement[bool]:
    return and_(moment >= START, moment < END)
