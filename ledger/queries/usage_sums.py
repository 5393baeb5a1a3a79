"""The one statement that sums usage: buckets that are folded, deltas that are not yet, and rows.

All three in one snapshot, so that a fold between them can neither hide a call nor show it
twice.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    SmallInteger,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    column,
    func,
    literal,
    not_,
    select,
    union_all,
)
from sqlalchemy import table as lightweight_table
from sqlalchemy.dialects.postgresql import ARRAY

from ledger.models.base import SCHEMA, Money
from ledger.models.billing import TokenUsage
from ledger.models.billing_sums import DAYS, DELTAS, HOURS, MODEL_DAYS, SUM_KEYS, SUMS
from ledger.models.tenancy import Provider
from ledger.queries.usage_shape import Rows, SumsShape

if TYPE_CHECKING:
    from sqlalchemy import FromClause, TableClause

    from ledger.queries.query import AnySelect

_MOMENT: Final = DateTime(timezone=True)
_USAGE: Final = TokenUsage.__table__

PERIOD: Final = "period"
COUNTS: Final = ("requests", "unpriced_requests", "input_tokens", "output_tokens")
AMOUNTS: Final = ("vendor_cost", "charge_usd", "credits_deducted")
MEASURES: Final = (*COUNTS, *AMOUNTS)


def summed(name: str, *more: Column[Any]) -> TableClause:
    """A table of sums as queries see it."""
    types = {"uuid": Uuid, "text": Text, "bigint": BigInteger}
    return lightweight_table(
        name,
        Column("hour" if name == DELTAS else "bucket", _MOMENT),
        *(Column(key, types[kind]) for key, kind in SUM_KEYS),
        *(Column(measure, types.get(kind, Money)) for measure, kind, _ in SUMS),
        *more,
        schema=SCHEMA,
    )


_TABLES: Final = {name: summed(name) for name in (DELTAS, HOURS, DAYS, MODEL_DAYS)}
_PERIODS: Final = bindparam("periods", type_=ARRAY(_MOMENT))


@lru_cache(maxsize=256)
def sums(shape: SumsShape) -> AnySelect:
    """Periods and keys with their MEASURES, of calls and of the corrections of them."""
    parts = [
        _of_sums(shape, _TABLES[name], _TABLES[name].c.bucket, f"level_{place}")
        for place, name in enumerate(shape.levels)
        if name is not None
    ]
    if parts:
        parts.append(_of_sums(shape, _TABLES[DELTAS], _TABLES[DELTAS].c.hour, "whole"))
    if shape.rows:
        parts += _of_rows(shape)
    every = union_all(*parts).subquery("parts")
    keys = [every.c[name] for name in (PERIOD, *shape.keys)]
    return select(
        *keys,
        *(cast(func.sum(every.c[name]), BigInteger).label(name) for name in COUNTS[:2]),
        *(func.sum(every.c[name]).label(name) for name in MEASURES[2:]),
    ).group_by(*keys)


def pieces(name: str) -> Any:  # noqa: ANN401 - SQLAlchemy's table values
    """The times that the cover binds under this name, as a relation: begin and until."""
    bounds = (bindparam(f"{name}_{end}", type_=ARRAY(_MOMENT)) for end in ("from", "to"))
    return (
        func.unnest(*bounds)
        .table_valued(column("begin", _MOMENT), column("until", _MOMENT))
        .render_derived(name=name)
    )


def period(moment: ColumnElement[Any]) -> ColumnElement[int]:
    """The place of the period that the moment is in, from 1."""
    return func.width_bucket(moment, _PERIODS).label(PERIOD)


def conditions(shape: SumsShape, table: FromClause) -> list[ColumnElement[bool]]:
    """The columns that are held to one value each; the provider is named."""
    return [table.c[name] == value_of(name) for name in shape.filters]


def value_of(name: str) -> ColumnElement[Any]:
    """What a column is held to."""
    if name == "provider_id":
        named = Provider.name == bindparam("provider", type_=Text())
        return select(Provider.id).where(named).scalar_subquery()
    return bindparam(name, type_=_USAGE.c[name].type)


def _of_sums(
    shape: SumsShape, table: TableClause, moment: ColumnElement[Any], name: str
) -> AnySelect:
    prefix = "restated_" if shape.is_restated else "corrected_"
    groups = [period(moment), *(table.c[name] for name in shape.keys)]
    times = pieces(name)
    return (
        select(
            *groups,
            *(func.sum(table.c[name]).label(name) for name in COUNTS),
            *(func.sum(table.c[name] + table.c[prefix + name]).label(name) for name in AMOUNTS),
        )
        .select_from(times.join(table, (moment >= times.c.begin) & (moment < times.c.until)))
        .where(*conditions(shape, table))
        .group_by(*_unlabelled(groups))
    )


def _of_rows(shape: SumsShape) -> list[AnySelect]:
    moment = _USAGE.c.adjusts_created_at if shape.is_restated else _USAGE.c.created_at
    return [
        # Each as its index has it: one condition on both would use neither.
        *(_of_some(shape, _USAGE.c.created_at, WHICH[some], COUNTED) for some in shape.rows),
        _of_some(shape, moment, not_(_MADE), UNCOUNTED),
    ]


_MADE: Final = _USAGE.c.kind == literal("usage")
_SUCCEEDED: Final = _USAGE.c.status == literal("success")
WHICH: Final = {
    Rows.SUCCEEDED: and_(_MADE, _SUCCEEDED),
    Rows.FAILED: and_(_MADE, not_(_SUCCEEDED)),
    Rows.MADE: _MADE,
}
COUNTED: Final = (
    func.count(),
    func.count().filter(_USAGE.c.vendor_cost.is_(None)),
    func.sum(_USAGE.c.input_tokens),
    func.sum(_USAGE.c.output_tokens),
)
UNCOUNTED: Final = tuple(literal(0, SmallInteger) for _ in COUNTS)


def _of_some(
    shape: SumsShape,
    moment: ColumnElement[Any],
    which: ColumnElement[bool],
    counts: tuple[ColumnElement[Any], ...],
) -> AnySelect:
    groups = [period(moment), *(_USAGE.c[name] for name in shape.keys)]
    rest = pieces("rest")
    rows = (
        select(
            *groups,
            *(each.label(name) for name, each in zip(COUNTS, counts, strict=True)),
            *(func.coalesce(func.sum(_USAGE.c[name]), 0).label(name) for name in AMOUNTS),
        )
        .select_from(rest.join(_USAGE, (moment >= rest.c.begin) & (moment < rest.c.until)))
        .where(which, *conditions(shape, _USAGE))
    )
    return rows.group_by(*_unlabelled(groups))


def _unlabelled(groups: list[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    return [getattr(group, "element", group) for group in groups]
