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
    Text,
    Uuid,
    cast,
    func,
    select,
    union_all,
)
from sqlalchemy import table as lightweight_table

from ledger.models.base import SCHEMA, Money
from ledger.models.billing_sums import (
    DAYS,
    DELTAS,
    HOURS,
    MODEL_DAYS,
    SUM_KEYS,
    SUMS,
    USER_DAYS,
    USER_DELTAS,
    USER_KEYS,
)
from ledger.queries.usage_rows import of_rows
from ledger.queries.usage_terms import (
    AMOUNTS,
    COUNTS,
    MEASURES,
    PERIOD,
    conditions,
    period,
    pieces,
    unlabelled,
)

if TYPE_CHECKING:
    from sqlalchemy import TableClause

    from ledger.queries.query import AnySelect
    from ledger.queries.usage_shape import SumsShape

_MOMENT: Final = DateTime(timezone=True)


def summed(name: str, *more: Column[Any]) -> TableClause:
    """A table of sums as queries see it."""
    types = {"uuid": Uuid, "text": Text, "bigint": BigInteger}
    keys = USER_KEYS if name in {USER_DELTAS, USER_DAYS} else SUM_KEYS
    return lightweight_table(
        name,
        Column("hour" if name in {DELTAS, USER_DELTAS} else "bucket", _MOMENT),
        *(Column(key, types[kind]) for key, kind in keys),
        *(Column(measure, types.get(kind, Money)) for measure, kind, _ in SUMS),
        *more,
        schema=SCHEMA,
    )


_TABLES: Final = {
    name: summed(name) for name in (DELTAS, HOURS, DAYS, MODEL_DAYS, USER_DELTAS, USER_DAYS)
}


@lru_cache(maxsize=256)
def sums(shape: SumsShape) -> AnySelect:
    """Periods and keys with their MEASURES, of calls and of the corrections of them."""
    parts = [
        _of_sums(shape, _TABLES[name], _TABLES[name].c.bucket, f"level_{place}")
        for place, name in enumerate(shape.levels)
        if name is not None
    ]
    if shape.deltas is not None:
        deltas = _TABLES[shape.deltas]
        parts.append(_of_sums(shape, deltas, deltas.c.hour, "whole"))
    if shape.rows:
        parts += of_rows(shape)
    every = union_all(*parts).subquery("parts")
    keys = [every.c[name] for name in (PERIOD, *shape.keys)]
    return select(
        *keys,
        *(cast(func.sum(every.c[name]), BigInteger).label(name) for name in COUNTS[:2]),
        *(func.sum(every.c[name]).label(name) for name in MEASURES[2:]),
    ).group_by(*keys)


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
        .group_by(*unlabelled(groups))
    )
