"""What runs come to, from sums where a role sees all of them, and from its own rows where not.

Whole days (UTC) are read as they were folded, with the deltas that wait to be, and the edges of
a window from rows. Whoever sees some runs, as he is narrowed or bound, has his answer from rows,
in the same statement: row level security shows sums of whole projects, and of nobody's share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    FromClause,
    SmallInteger,
    TableClause,
    Text,
    Uuid,
    and_,
    bindparam,
    column,
    func,
    literal,
    literal_column,
    not_,
    select,
    true,
    union_all,
)
from sqlalchemy import table as lightweight_table
from sqlalchemy.types import TypeEngine

from ledger.models.audit import Execution
from ledger.models.audit_sums import (
    EXECUTION_COST_BIN,
    EXECUTION_COSTS,
    EXECUTION_DAYS,
    EXECUTION_DELTAS,
    EXECUTION_KEYS,
    EXECUTION_SUMS,
)
from ledger.models.base import SCHEMA, Money
from ledger.queries.cover import cover
from ledger.queries.opening import SEEN_WIDTH, seen
from ledger.queries.query import AnySelect, Cells
from ledger.queries.usage_terms import pieces
from ledger.window import Window

_RUNS: Final = Execution.__table__
_MOMENT: Final = DateTime(timezone=True)
_TYPES: Final[Mapping[str, TypeEngine[Any]]] = {
    "uuid": Uuid(),
    "text": Text(),
    "bigint": BigInteger(),
}


def _summed(name: str, *more: Column[Any]) -> TableClause:
    """A table of sums as queries see it."""
    keys = (Column(key, _TYPES[kind]) for key, kind in EXECUTION_KEYS)
    return lightweight_table(name, *keys, *more, schema=SCHEMA)


def _measures() -> list[Column[Any]]:
    return [Column(name, _TYPES.get(kind, Money)) for name, kind, _ in EXECUTION_SUMS]


_DAYS: Final = _summed(EXECUTION_DAYS, Column("bucket", _MOMENT), *_measures())
_COSTS: Final = _summed(
    EXECUTION_COSTS,
    Column("bucket", _MOMENT),
    Column("bin", SmallInteger),
    Column("executions", BigInteger),
)
_DELTAS: Final = _summed(
    EXECUTION_DELTAS,
    Column("hour", _MOMENT),
    *_measures(),
    Column("cost_bins", ARRAY(SmallInteger)),
)

_SEES_ALL: Final[ColumnElement[bool]] = literal_column(
    f"(SELECT ledger.sees_all() OR NOT row_security_active('{SCHEMA}.{Execution.__tablename__}'))"
)
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 12, 31, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
MEASURES: Final = tuple(name for name, _, _ in EXECUTION_SUMS)
_EXTREMES: Final = {"min": func.min, "max": func.max}
_MERGED: Final[Mapping[str, Any]] = {
    name: _EXTREMES.get(sql.partition("(")[0], func.sum) for name, _, sql in EXECUTION_SUMS
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSums:
    """Which runs are added up: of a project, of an agent, in a window; None is all of them."""

    project_id: UUID | None = None
    agent_id: str | None = None
    window: Window | None = None

    @property
    def filters(self) -> tuple[str, ...]:
        """The columns that are held to a value each."""
        given = {"project_id": self.project_id, "agent_id": self.agent_id}
        return tuple(name for name, value in given.items() if value is not None)

    @property
    def parameters(self) -> dict[str, Any]:
        """What the statement binds: the values, and which days and which times are read."""
        window = self.window or Window(start=_BEGINNING, end=_END)
        covered = cover([window.start, window.end], [_DAY])
        read = {
            "days": covered.whole,
            "rest": covered.rest,
            "every": ((window.start, window.end),),
        }
        bound: dict[str, Any] = {name: getattr(self, name) for name in self.filters}
        for name, found in read.items():
            bound[f"{name}_from"] = [begin for begin, _ in found]
            bound[f"{name}_to"] = [until for _, until in found]
        return bound


@lru_cache(maxsize=64)
def answered(statement: AnySelect) -> AnySelect:
    """The rows of the statement, each after what it saw; a row of NULLs where there is none."""
    # Without late hours, of which no run is, and which a reader may not look at.
    found, answer = seen(), statement.subquery("answer")
    return select(*found.c, *answer.c).select_from(found.outerjoin(answer, true()))


def rows_of(rows: Sequence[Cells]) -> list[Cells]:
    """What was answered, without what the statement saw."""
    return [row[SEEN_WIDTH:] for row in rows if row[SEEN_WIDTH] is not None]


@lru_cache(maxsize=64)
def summed(filters: tuple[str, ...], keys: tuple[str, ...]) -> AnySelect:
    """``keys``, then MEASURES of the runs that are asked for; no row for no runs."""
    parts = union_all(
        _of_sums(_DAYS, _DAYS.c.bucket, keys, filters),
        _of_sums(_DELTAS, _DELTAS.c.hour, keys, filters),
        _of_rows(keys, filters),
    ).subquery("parts")
    groups = [parts.c[name] for name in keys]
    merged = [_MERGED[name](parts.c[name]).label(name) for name in MEASURES]
    return select(*groups, *merged).group_by(*groups).having(func.count() > 0)


@lru_cache(maxsize=64)
def binned(filters: tuple[str, ...]) -> AnySelect:
    """The bins of cost, and how many runs there are in each."""
    days, times = pieces("days"), _times()
    waiting = (
        func.unnest(_DELTAS.c.cost_bins)
        .table_valued(column("bin", SmallInteger))
        .render_derived(name="waiting")
        .lateral()
    )
    cost_bin = literal_column(f"({EXECUTION_COST_BIN})", SmallInteger)
    parts = union_all(
        select(_COSTS.c.bin, _COSTS.c.executions)
        .select_from(days.join(_COSTS, _within(_COSTS.c.bucket, days)))
        .where(_SEES_ALL, *_held(_COSTS, filters)),
        select(waiting.c.bin, literal(1))
        .select_from(days.join(_DELTAS, _within(_DELTAS.c.hour, days)).join(waiting, true()))
        .where(_SEES_ALL, *_held(_DELTAS, filters)),
        select(cost_bin, literal(1))
        .select_from(times.join(_RUNS, _within(_RUNS.c.created_at, times)))
        .where(*_held(_RUNS, filters)),
    ).subquery("parts")
    executions = func.sum(parts.c.executions, type_=BigInteger()).label("executions")
    return select(parts.c.bin, executions).group_by(parts.c.bin)


def _of_sums(
    table: TableClause, moment: ColumnElement[Any], keys: tuple[str, ...], filters: tuple[str, ...]
) -> AnySelect:
    days = pieces("days")
    groups = [table.c[name] for name in keys]
    merged = [_MERGED[name](table.c[name]).label(name) for name in MEASURES]
    return (
        select(*groups, *merged)
        .select_from(days.join(table, _within(moment, days)))
        .where(_SEES_ALL, *_held(table, filters))
        .group_by(*groups)
        .having(func.count() > 0)
    )


def _of_rows(keys: tuple[str, ...], filters: tuple[str, ...]) -> AnySelect:
    times = _times()
    groups = [_RUNS.c[name] for name in keys]
    made: list[ColumnElement[Any]] = [
        literal_column(sql).label(name) for name, _, sql in EXECUTION_SUMS
    ]
    return (
        select(*groups, *made)
        .select_from(times.join(_RUNS, _within(_RUNS.c.created_at, times)))
        .where(*_held(_RUNS, filters))
        .group_by(*groups)
        .having(func.count() > 0)
    )


def _times() -> Any:  # noqa: ANN401 - a subquery
    """When rows are read: at the edges of days, or, where sums are hidden, all of the time."""
    rest, every = pieces("rest"), pieces("every")
    return union_all(
        select(rest.c.begin, rest.c.until).where(_SEES_ALL),
        select(every.c.begin, every.c.until).where(not_(_SEES_ALL)),
    ).subquery("times")


def _within(moment: ColumnElement[Any], times: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return and_(moment >= times.c.begin, moment < times.c.until)


def _held(table: FromClause, filters: tuple[str, ...]) -> list[ColumnElement[bool]]:
    return [table.c[name] == bindparam(name, type_=_RUNS.c[name].type) for name in filters]
