"""Latency sketches beside each other: whether they hold the same latencies, and how many.

By all that is in them: percentiles, and how many latencies are counted, can be the same where
the bins are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Integer, Text, cast, func, literal_column, or_, select

from ledger.models.latency import merged_rollup_sql, rolled_up_sql, sketch_type

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Label, ScalarSelect, Subquery

    from ledger.ddl.rendering import Rendering

SKETCH: Final = "latency_sketch"


def made_of_requests(rendering: Rendering) -> Label[Any]:
    """The sketch that a refresh makes of a group of raw rows."""
    sql = rolled_up_sql("latency_ms", rendering.percentiles, rendering.toolkit)
    return literal_column(sql, sketch_type(rendering.percentiles)).label(SKETCH)


def made_of_sketches(rendering: Rendering) -> Label[Any]:
    """The sketch that a refresh makes of a group of finer ones."""
    sql = merged_rollup_sql(SKETCH, rendering.percentiles, rendering.toolkit)
    return literal_column(sql, sketch_type(rendering.percentiles)).label(SKETCH)


def are_same(
    one: ColumnElement[Any], other: ColumnElement[Any], rendering: Rendering
) -> ColumnElement[bool]:
    """Whether both hold the same latencies."""
    if rendering.is_of_sketches:
        # Every bucket, and the sum: whole milliseconds, which add up exactly in any order.
        return cast(one, Text) == cast(other, Text)
    # Arrays that are not the same can have the same bins: one that is missing counts zero.
    return or_(one == other, _bins(one).is_not_distinct_from(_bins(other)))


def _bins(histogram: ColumnElement[Any]) -> ScalarSelect[Any]:
    """What each bin counts, as JSON; NULL where none counts anything."""
    number = func.generate_subscripts(histogram, 1, type_=Integer).column_valued("number")
    counted = histogram[number]
    return (
        select(func.jsonb_object_agg(cast(number, Text), counted))
        .where(counted != 0)
        .scalar_subquery()
    )


def latencies_counted(of: Subquery, rendering: Rendering) -> ColumnElement[Any]:
    """How many latencies the subquery's sketch holds."""
    if rendering.is_of_sketches:
        return literal_column(f"{rendering.toolkit}.num_vals({of.name}.{SKETCH})")
    bins = func.unnest(of.c[SKETCH]).column_valued("bin")
    return select(func.sum(bins)).scalar_subquery()
