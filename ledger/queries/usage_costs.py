"""The statement that spreads calls over bins of cost: folded days, deltas, and rows."""

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
    cast,
    column,
    func,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy import table as lightweight_table
from sqlalchemy.dialects.postgresql import ARRAY

from ledger.models.base import SCHEMA, Money
from ledger.models.billing import TokenUsage
from ledger.models.billing_sums import (
    ALL_COSTS,
    COST_BIN,
    COSTS,
    DAYS,
    DELTAS,
    MODEL_DAYS,
    SUM_KEYS,
)
from ledger.queries.usage_rows import WHICH
from ledger.queries.usage_sums import summed
from ledger.queries.usage_terms import conditions, pieces

if TYPE_CHECKING:
    from sqlalchemy import TableClause

    from ledger.queries.query import AnySelect
    from ledger.queries.usage_shape import SumsShape

BIN: Final = "bin"
COLUMNS: Final = (BIN, "requests", "vendor_cost")

_MOMENT: Final = DateTime(timezone=True)
_USAGE: Final = TokenUsage.__table__
_TYPES: Final = {"uuid": Uuid, "text": Text}


def _binned(name: str) -> TableClause:
    return lightweight_table(
        name,
        Column("bucket", _MOMENT),
        *(Column(key, _TYPES[kind]) for key, kind in SUM_KEYS),
        Column(BIN, SmallInteger),
        Column("requests", BigInteger),
        schema=SCHEMA,
    )


_BINNED: Final = {name: _binned(name) for name in (COSTS, ALL_COSTS)}
_SUMMED: Final = {name: summed(name) for name in (DAYS, MODEL_DAYS)}
_DELTAS: Final = summed(DELTAS, Column("cost_bins", ARRAY(SmallInteger)))
_BIN_OF_ROW: Final[ColumnElement[int]] = literal_column(COST_BIN, SmallInteger)


@lru_cache(maxsize=256)
def costs(shape: SumsShape) -> AnySelect:
    """Bins, their requests and a cost: of some in their bin, of the others in bin NULL."""
    parts: list[AnySelect] = []
    if shape.levels:
        has_all = {*shape.filters} <= {"status"}
        parts += [
            _of_bins(shape, _BINNED[ALL_COSTS if has_all else COSTS]),
            _of_deltas(shape),
            _cost_of_days(shape, _SUMMED[DAYS if has_all else MODEL_DAYS]),
            _cost_of_deltas(shape),
        ]
    for some in shape.rows:
        which = and_(WHICH[some], _USAGE.c.vendor_cost.is_not(None))
        parts.append(_of_rows(shape, which))
    every = union_all(*parts).subquery("parts")
    return select(
        every.c[BIN],
        cast(func.sum(every.c.requests), BigInteger).label("requests"),
        func.sum(every.c.vendor_cost).label("vendor_cost"),
    ).group_by(every.c[BIN])


_NO_COST: Final = cast(0, Money).label("vendor_cost")
_NO_REQUESTS: Final = cast(0, BigInteger).label("requests")
_NO_BIN: Final[ColumnElement[int]] = literal_column("NULL::smallint", SmallInteger)


def _of_bins(shape: SumsShape, table: TableClause) -> AnySelect:
    times = pieces("whole")
    return (
        select(table.c[BIN], func.sum(table.c.requests).label("requests"), _NO_COST)
        .select_from(times.join(table, _within(table.c.bucket, times)))
        .where(*conditions(shape, table))
        .group_by(table.c[BIN])
    )


def _of_deltas(shape: SumsShape) -> AnySelect:
    times = pieces("whole")
    bins: Any = (
        func.unnest(_DELTAS.c.cost_bins)
        .table_valued(column(BIN, SmallInteger))
        .render_derived(name="bins")
    )
    return (
        select(bins.c[BIN], func.count().label("requests"), _NO_COST)
        .select_from(times.join(_DELTAS, _within(_DELTAS.c.hour, times)).join(bins, true()))
        .where(*conditions(shape, _DELTAS))
        .group_by(bins.c[BIN])
    )


def _of_rows(shape: SumsShape, which: ColumnElement[bool]) -> AnySelect:
    times = pieces("rest")
    return (
        select(
            _BIN_OF_ROW.label(BIN),
            func.count().label("requests"),
            func.sum(_USAGE.c.vendor_cost).label("vendor_cost"),
        )
        .select_from(times.join(_USAGE, _within(_USAGE.c.created_at, times)))
        .where(which, *conditions(shape, _USAGE))
        .group_by(_BIN_OF_ROW)
    )


def _cost_of_days(shape: SumsShape, table: TableClause) -> AnySelect:
    return _cost(shape, table, table.c.bucket, "whole")


def _cost_of_deltas(shape: SumsShape) -> AnySelect:
    return _cost(shape, _DELTAS, _DELTAS.c.hour, "whole")


def _cost(shape: SumsShape, table: Any, moment: ColumnElement[Any], name: str) -> AnySelect:  # noqa: ANN401 - a table of ours
    times = pieces(name)
    total = func.coalesce(func.sum(table.c.vendor_cost), 0).label("vendor_cost")
    return (
        select(_NO_BIN.label(BIN), _NO_REQUESTS, total)
        .select_from(times.join(table, _within(moment, times)))
        .where(*conditions(shape, table))
    )


def _within(moment: ColumnElement[Any], times: Any) -> ColumnElement[bool]:  # noqa: ANN401 - SQLAlchemy's table values
    return and_(moment >= times.c.begin, moment < times.c.until)
