"""What rows add to a question's sums: calls, each part by its own index, and corrections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, SmallInteger, and_, func, literal, not_, select, true

from ledger.models.billing import TokenUsage
from ledger.models.tenancy import User
from ledger.queries.usage_shape import Rows, SumsShape
from ledger.queries.usage_terms import (
    AMOUNTS,
    COUNTS,
    MEASURES,
    conditions,
    period,
    pieces,
    unlabelled,
)

if TYPE_CHECKING:
    from ledger.queries.query import AnySelect

_USAGE: Final = TokenUsage.__table__
_USERS: Final = User.__table__

_MADE: Final = _USAGE.c.kind == literal("usage")
_SUCCEEDED: Final = _USAGE.c.status == literal("success")
WHICH: Final = {
    Rows.SUCCEEDED: and_(_MADE, _SUCCEEDED),
    Rows.FAILED: and_(_MADE, not_(_SUCCEEDED)),
    Rows.MADE: _MADE,
    Rows.BY_USER: _MADE,
}
_COUNTED: Final = (
    func.count(),
    func.count().filter(_USAGE.c.vendor_cost.is_(None)),
    func.sum(_USAGE.c.input_tokens),
    func.sum(_USAGE.c.output_tokens),
)
_UNCOUNTED: Final = tuple(literal(0, SmallInteger) for _ in COUNTS)


def of_rows(shape: SumsShape) -> list[AnySelect]:
    """Calls and the corrections of them: PERIOD, the keys, MEASURES."""
    moment = _USAGE.c.adjusts_created_at if shape.is_restated else _USAGE.c.created_at
    return [
        # Each as its index has it: one condition on both would use neither.
        *(
            _of_each_user(shape)
            if some is Rows.BY_USER
            else _of_some(shape, _USAGE.c.created_at, WHICH[some], _COUNTED)
            for some in shape.rows
        ),
        _of_some(shape, moment, not_(_MADE), _UNCOUNTED),
    ]


def _of_some(
    shape: SumsShape,
    moment: ColumnElement[Any],
    which: ColumnElement[bool],
    counts: tuple[ColumnElement[Any], ...],
) -> AnySelect:
    groups = [period(moment), *(_USAGE.c[name] for name in shape.keys)]
    rest = pieces("rest")
    rows = (
        select(*groups, *_added(counts))
        .select_from(rest.join(_USAGE, (moment >= rest.c.begin) & (moment < rest.c.until)))
        .where(which, *conditions(shape, _USAGE))
    )
    return rows.group_by(*unlabelled(groups))


def _of_each_user(shape: SumsShape) -> AnySelect:
    """Calls of one period, by user alone."""
    rest, moment = pieces("rest"), _USAGE.c.created_at
    own = (
        select(*_added(_COUNTED))
        .where(
            _USAGE.c.user_id == _USERS.c.id,
            WHICH[Rows.BY_USER],
            moment >= rest.c.begin,
            moment < rest.c.until,
            *conditions(shape, _USAGE),
        )
        .correlate(_USERS, rest)
        .lateral("own")
    )
    return (
        select(
            period(rest.c.begin),
            _USERS.c.id.label("user_id"),
            *(own.c[name] for name in MEASURES),
        )
        .select_from(rest.join(_USERS, true()).join(own, true()))
        .where(own.c.requests > 0)
    )


def _added(counts: tuple[ColumnElement[Any], ...]) -> list[ColumnElement[Any]]:
    """MEASURES of rows."""
    return [
        *(each.label(name) for name, each in zip(COUNTS, counts, strict=True)),
        *(func.coalesce(func.sum(_USAGE.c[name]), 0).label(name) for name in AMOUNTS),
    ]
