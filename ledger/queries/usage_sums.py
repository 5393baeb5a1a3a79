"""The one statement that sums usage: buckets that are folded, deltas that are not yet, and rows.

All three in one snapshot, so that a fold between them can neither hide a call nor show it
twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Interval,
    SmallInteger,
    Text,
    Uuid,
    all_,
    and_,
    bindparam,
    cast,
    column,
    func,
    literal,
    not_,
    select,
    true,
    union_all,
)
from sqlalchemy import table as lightweight_table

from ledger.models.base import SCHEMA, Money
from ledger.models.billing import TokenUsage
from ledger.models.billing_sums import DAYS, DELTAS, HOURS, SUM_KEYS, SUMS
from ledger.models.tenancy import Provider
from ledger.queries.columns import EPOCH
from ledger.queries.cover import CUT, FIRST, FROM, LAST, PERIODS, TO
from ledger.window import HOUR

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy import FromClause, TableClause

    from ledger.queries.query import AnySelect

_DAY: Final = 24 * HOUR
_MOMENT: Final = DateTime(timezone=True)
_USAGE: Final = TokenUsage.__table__

PERIOD: Final = "period"
COUNTS: Final = ("requests", "unpriced_requests", "input_tokens", "output_tokens")
AMOUNTS: Final = ("vendor_cost", "charge_usd", "credits_deducted")
MEASURES: Final = (*COUNTS, *AMOUNTS)


class Level(Enum):
    """Where the sums of whole buckets are."""

    HOURS = HOURS
    DAYS = DAYS
    ROWS = "rows"

    @property
    def width(self) -> timedelta | None:
        """How long a bucket is."""
        return {Level.HOURS: HOUR, Level.DAYS: _DAY, Level.ROWS: None}[self]

    @classmethod
    def of(cls, names: set[str]) -> Level:
        """The fastest that knows these columns."""
        if names <= {"provider_id", "status"}:
            return cls.HOURS
        return cls.DAYS if names <= {name for name, _ in SUM_KEYS} else cls.ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsShape:
    """What decides about the statement, beyond the values it binds."""

    keys: tuple[str, ...]
    """What is grouped by, besides the period."""
    filters: tuple[str, ...]
    """Columns held to one value each."""
    level: Level
    has_whole: bool
    has_cut: bool
    has_rest: bool
    is_restated: bool


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


_DELTAS: Final = summed(DELTAS)
_TABLES: Final = {level: summed(level.value) for level in (Level.HOURS, Level.DAYS)}
_rest: Final = (
    func.unnest(FROM, TO)
    .table_valued(column("begin", _MOMENT), column("until", _MOMENT))
    .render_derived(name="rest")
)


@lru_cache(maxsize=256)
def sums(shape: SumsShape) -> AnySelect:
    """Periods and keys with their MEASURES, of calls and of the corrections of them."""
    parts: list[AnySelect] = []
    if shape.has_whole:
        table = _TABLES[shape.level]
        parts += [
            _of_sums(shape, table, table.c.bucket),
            _of_sums(shape, _DELTAS, _DELTAS.c.hour),
        ]
    if shape.has_rest:
        parts += _of_rows(shape)
    every = union_all(*parts).subquery("parts")
    keys = [every.c[name] for name in (PERIOD, *shape.keys)]
    return select(
        *keys,
        *(cast(func.sum(every.c[name]), BigInteger).label(name) for name in COUNTS[:2]),
        *(func.sum(every.c[name]).label(name) for name in MEASURES[2:]),
    ).group_by(*keys)


def period(moment: ColumnElement[Any]) -> ColumnElement[int]:
    """The place of the period that the moment is in, from 1."""
    return func.width_bucket(moment, PERIODS).label(PERIOD)


def conditions(shape: SumsShape, table: FromClause) -> list[ColumnElement[bool]]:
    """The columns that are held to one value each; the provider is named."""
    return [table.c[name] == value_of(name) for name in shape.filters]


def value_of(name: str) -> ColumnElement[Any]:
    """What a column is held to."""
    if name == "provider_id":
        named = Provider.name == bindparam("provider", type_=Text())
        return select(Provider.id).where(named).scalar_subquery()
    return bindparam(name, type_=_USAGE.c[name].type)


def uncut(shape: SumsShape, moment: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    """The whole buckets, but for those that a border parts."""
    found: list[ColumnElement[bool]] = [moment >= FIRST, moment < LAST]
    if shape.has_cut:
        width = bindparam("width", shape.level.width, type_=Interval(native=True))
        found.append(func.date_bin(width, moment, EPOCH) != all_(CUT))
    return found


def _of_sums(shape: SumsShape, table: TableClause, moment: ColumnElement[Any]) -> AnySelect:
    prefix = "restated_" if shape.is_restated else "corrected_"
    groups = [period(moment), *(table.c[name] for name in shape.keys)]
    return (
        select(
            *groups,
            *(func.sum(table.c[name]).label(name) for name in COUNTS),
            *(func.sum(table.c[name] + table.c[prefix + name]).label(name) for name in AMOUNTS),
        )
        .where(*uncut(shape, moment), *conditions(shape, table))
        .group_by(*_unlabelled(groups))
    )


def _of_rows(shape: SumsShape) -> list[AnySelect]:
    made = _USAGE.c.kind == literal("usage")
    succeeded = _USAGE.c.status == literal("success")
    moment = _USAGE.c.adjusts_created_at if shape.is_restated else _USAGE.c.created_at
    return [
        # Each as its index has it: one condition on both would use neither.
        _of_some(shape, _USAGE.c.created_at, and_(made, succeeded), counts=_COUNTED),
        _of_some(shape, _USAGE.c.created_at, and_(made, not_(succeeded)), counts=_COUNTED),
        _of_some(shape, moment, not_(made), counts=_UNCOUNTED),
    ]


_COUNTED: Final = (
    func.count(),
    func.count().filter(_USAGE.c.vendor_cost.is_(None)),
    func.sum(_USAGE.c.input_tokens),
    func.sum(_USAGE.c.output_tokens),
)
_UNCOUNTED: Final = tuple(literal(0, SmallInteger) for _ in COUNTS)


def _of_some(
    shape: SumsShape,
    moment: ColumnElement[Any],
    which: ColumnElement[bool],
    *,
    counts: tuple[ColumnElement[Any], ...],
) -> AnySelect:
    groups = [period(moment), *(_USAGE.c[name] for name in shape.keys)]
    rows = (
        select(
            *groups,
            *(each.label(name) for name, each in zip(COUNTS, counts, strict=True)),
            *(func.coalesce(func.sum(_USAGE.c[name]), 0).label(name) for name in AMOUNTS),
        )
        .select_from(_rest.join(_USAGE, true()))
        .where(
            moment >= _rest.c.begin,
            moment < _rest.c.until,
            which,
            *conditions(shape, _USAGE),
        )
    )
    return rows.group_by(*_unlabelled(groups))


def _unlabelled(groups: list[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    return [getattr(group, "element", group) for group in groups]
