"""What every branch of a read selects, filters by and groups by, and the names it binds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    ColumnElement,
    DateTime,
    FromClause,
    Interval,
    Text,
    Uuid,
    bindparam,
    func,
    literal_column,
)
from sqlalchemy.dialects.postgresql import ARRAY

from ledger.models.installation import RollupProgress
from ledger.models.telemetry import MEASURES, LLMRequest
from ledger.queries.shape import Era, Shape
from ledger.window import HOUR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.types import TypeEngine

    from ledger.queries.query import AnySelect

SKETCH: Final = "latency_sketch"

_MOMENT: Final = DateTime(timezone=True)
_TYPES: Final[dict[str, TypeEngine[Any]]] = {"user_id": Uuid(), "provider": Text(), "model": Text()}
REQUESTS: Final = LLMRequest.__table__
TIMESTAMP: Final = REQUESTS.c.timestamp
PROGRESS: Final = RollupProgress.__table__

EPOCH: Final = bindparam("epoch", datetime(1970, 1, 1, tzinfo=UTC), type_=_MOMENT)
ONE_HOUR: Final = bindparam("one_hour", HOUR, type_=Interval(native=True))
WIDTH: Final = bindparam("width", type_=Interval(native=True))
BORDERS: Final = bindparam("borders", type_=ARRAY(_MOMENT))
CUT_HOURS: Final = bindparam("cut_hours", type_=ARRAY(_MOMENT))
START, END, FIRST_HOUR, LAST_HOUR = (
    bindparam(name, type_=_MOMENT) for name in ("start", "end", "first_hour", "last_hour")
)


def group_keys(
    shape: Shape, table: FromClause, moment: ColumnElement[datetime]
) -> list[ColumnElement[Any]]:
    """What is grouped by, time first; ``moment`` is the table's."""
    keys: list[ColumnElement[Any]] = [table.c[name] for name in shape.grouping.keys]
    match shape.grouping.era:
        case Era.BUCKET:
            keys.insert(0, func.date_bin(WIDTH, moment, EPOCH).label(Era.BUCKET.value))
        case Era.DAY:
            keys.insert(0, func.width_bucket(moment, BORDERS).label(Era.DAY.value))
        case Era.NONE:
            pass
    return keys


def raw_measures(shape: Shape) -> list[ColumnElement[Any]]:
    """What is summed, as raw rows give it: the same SQL that rollups are made by."""
    return [literal_column(MEASURES[measure]).label(measure) for measure in shape.grouping.measures]


def filters(shape: Shape, table: FromClause) -> list[ColumnElement[bool]]:
    """The columns that are held to one value each."""
    return [table.c[name] == bound(name) for name in shape.filters]


def bound(name: str) -> ColumnElement[Any]:
    """The value that a column is held to."""
    return bindparam(name, type_=_TYPES[name])


def grouped(rows: AnySelect, groups: Sequence[ColumnElement[Any]]) -> AnySelect:
    """The rows, grouped; no row for no rows, also where there is nothing to group by."""
    if groups:
        return rows.group_by(*(_unlabelled(group) for group in groups))
    return rows.having(func.count() > 0)


def _unlabelled(key: ColumnElement[Any]) -> ColumnElement[Any]:
    return getattr(key, "element", key)
