"""Which hours TimescaleDB knows to be older than their rows, and will refresh with the next run."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Column, Integer, String, cast, exists, false, func, or_, select
from sqlalchemy import table as lightweight_table

from ledger.models.base import SCHEMA
from ledger.models.telemetry import HOUR_ROLLUP, MINUTE_ROLLUP
from ledger.settings import Storage

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, TableClause

_CATALOG: Final = "_timescaledb_catalog"
_MICROSECONDS: Final = 1_000_000
_HOUR_IN_MICROSECONDS: Final = 3_600 * _MICROSECONDS

_aggregates = lightweight_table(
    "continuous_agg",
    Column("mat_hypertable_id", Integer),
    Column("raw_hypertable_id", Integer),
    Column("user_view_schema", String),
    Column("user_view_name", String),
    schema=_CATALOG,
)


def _log(name: str, of: str) -> TableClause:
    return lightweight_table(
        name,
        Column(of, Integer),
        Column("lowest_modified_value", BigInteger),
        Column("greatest_modified_value", BigInteger),
        schema=_CATALOG,
    )


_touched_source = _log("continuous_aggs_hypertable_invalidation_log", "hypertable_id")
_touched_aggregate = _log("continuous_aggs_materialization_invalidation_log", "materialization_id")


def awaits_refresh(bucket: ColumnElement[datetime], storage: Storage) -> ColumnElement[bool]:
    """Whether the hour that begins at, or holds, ``bucket`` is invalidated at either level.

    Plain PostgreSQL has none to name: there reads take such hours from the raw rows.
    """
    if storage is Storage.POSTGRES:
        return false()
    microseconds = cast(func.extract("epoch", bucket) * _MICROSECONDS, BigInteger)
    start = microseconds - func.mod(microseconds, _HOUR_IN_MICROSECONDS)

    is_ours = (
        _aggregates.c.user_view_schema == SCHEMA,
        _aggregates.c.user_view_name.in_((MINUTE_ROLLUP, HOUR_ROLLUP)),
    )

    def holds(log: TableClause, hypertable: str, mentioned: str) -> ColumnElement[bool]:
        # TimescaleDB's own time is in microseconds since the epoch.
        return exists().where(
            log.c[hypertable].in_(select(_aggregates.c[mentioned]).where(*is_ours)),
            log.c.lowest_modified_value < start + _HOUR_IN_MICROSECONDS,
            log.c.greatest_modified_value >= start,
        )

    return or_(
        holds(_touched_source, "hypertable_id", "raw_hypertable_id"),
        holds(_touched_aggregate, "materialization_id", "mat_hypertable_id"),
    )
