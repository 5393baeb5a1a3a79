"""The parts that an answer is put together from, one for each level that it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, FromClause, exists, func, literal_column, select, true

from ledger.models.latency import Sketched, bin_sql
from ledger.models.telemetry import HOUR_ROLLUP, TOUCHED, materialized, rollup
from ledger.queries.columns import (
    CUT_HOURS,
    FIRST_HOUR,
    LAST_HOUR,
    ONE_HOUR,
    PROGRESS,
    REQUESTS,
    SKETCH,
    TIMESTAMP,
    bound,
    filters,
    group_keys,
    grouped,
    raw_measures,
)
from ledger.queries.opening import SOURCE
from ledger.settings import Percentiles

if TYPE_CHECKING:
    from sqlalchemy import CTE

    from ledger.queries.query import AnySelect
    from ledger.queries.shape import Shape


def rolled_up(shape: Shape, late: CTE | None) -> AnySelect:
    """Whole hours as they were rolled up, without those that are read from raw rows."""
    hours = rollup(materialized(HOUR_ROLLUP, shape.storage), shape.percentiles)
    names = [*shape.grouping.measures, *([SKETCH] if shape.grouping.has_percentiles else [])]
    columns = [*group_keys(shape, hours, hours.c.bucket), *(hours.c[name] for name in names)]
    rows = select(*columns).where(
        *filters(shape, hours), hours.c.bucket >= FIRST_HOUR, hours.c.bucket < LAST_HOUR
    )
    if late is not None:
        rows = rows.where(_is_not(late, hours, shape))
    if shape.has_cut_hours:
        rows = rows.where(hours.c.bucket != func.all(CUT_HOURS))
    return rows


def _is_not(late: CTE, hours: FromClause, shape: Shape) -> ColumnElement[bool]:
    if "user_id" in shape.filters:
        # Not a join: it was a merge by hour, which read every user's hours (24 ms for 3).
        return hours.c.bucket != func.all(func.array(select(late.c.hour).scalar_subquery()))
    return ~exists().where(late.c.hour == hours.c.bucket, late.c.user_id == hours.c.user_id)


def late_hours(shape: Shape) -> CTE:
    """Hours whose rows are newer than their rollup: those in the log, and not yet detached.

    Where raw rows begin is read here, in the statement's own snapshot, so that retention
    beside it cannot take an hour from both branches.
    """
    kept = select(PROGRESS.c.raw_from).where(PROGRESS.c.source == SOURCE).scalar_subquery()
    rows = (
        select(TOUCHED.c.hour, TOUCHED.c.user_id)
        .distinct()
        .where(TOUCHED.c.hour >= FIRST_HOUR, TOUCHED.c.hour < LAST_HOUR, TOUCHED.c.hour >= kept)
    )
    if "user_id" in shape.filters:
        rows = rows.where(TOUCHED.c.user_id == bound("user_id"))
    if shape.has_cut_hours:
        rows = rows.where(TOUCHED.c.hour != func.all(CUT_HOURS))
    return rows.cte("late")


def raw_part(shape: Shape, *conditions: ColumnElement[bool]) -> AnySelect:
    """Raw rows as a rollup would have them; a histogram in single bins."""
    keys = group_keys(shape, REQUESTS, TIMESTAMP)
    columns: list[ColumnElement[Any]] = [*keys, *raw_measures(shape)]
    groups: list[ColumnElement[Any]] = list(keys)
    if shape.grouping.has_percentiles:
        columns.append(Sketched(REQUESTS.c.latency_ms, shape.percentiles).label(SKETCH))
        if shape.percentiles is Percentiles.HISTOGRAM:
            groups.append(literal_column(bin_sql(REQUESTS.c.latency_ms.name)))
    rows = select(*columns).where(*filters(shape, REQUESTS), *conditions)
    return grouped(rows, groups)


def hour_by_hour(shape: Shape, hours: FromClause, *conditions: ColumnElement[bool]) -> AnySelect:
    """Raw rows of scattered hours, each by its own look into the index.

    Lateral and aggregated, so that no plan can read all the time between them.
    """
    part = (
        raw_part(
            shape,
            *conditions,
            hours.c.hour <= TIMESTAMP,
            hours.c.hour + ONE_HOUR > TIMESTAMP,
            # Constant, so that a plan is made for the window's chunks and not for all.
            TIMESTAMP >= FIRST_HOUR,
            TIMESTAMP < LAST_HOUR,
        )
        .correlate(hours)
        .lateral()
    )
    return select(*part.c).select_from(hours.join(part, true()))
