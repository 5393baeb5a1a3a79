"""The one statement that answers a read, from the levels that its route names.

Each branch repeats constant bounds, which keeps planning at 0.5 ms for 400 chunks (17 ms where
the tail is bounded by a watermark in a table); the branches are merged, and percentiles read,
outside.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Text,
    cast,
    func,
    literal_column,
    select,
    true,
    union_all,
)

from ledger.models.latency import Merged, Percentile
from ledger.queries.columns import (
    CUT_HOURS,
    END,
    FIRST_HOUR,
    LAST_HOUR,
    REQUESTS,
    SKETCH,
    START,
    TIMESTAMP,
    filters,
    group_keys,
    grouped,
    raw_measures,
)
from ledger.queries.levels import hour_by_hour, late_hours, raw_part, rolled_up
from ledger.queries.opening import seen

if TYPE_CHECKING:
    from sqlalchemy import Subquery

    from ledger.queries.query import AnySelect
    from ledger.queries.shape import Shape

QUANTILES: Final = {"p50_latency_ms": 0.5, "p95_latency_ms": 0.95, "p99_latency_ms": 0.99}


@lru_cache(maxsize=1024)
def statement(shape: Shape) -> AnySelect:
    """The statement of a shape; its rows begin with the context that it saw.

    An empty answer still has a row, of NULLs, to say that.
    """
    answer = (_merged if shape.reads_hours else _raw_alone)(shape)
    found = seen(shape.storage)
    keys = [answer.c[name] for name in shape.grouping.columns]
    return (
        select(*found.c, *answer.c)
        .select_from(found.outerjoin(answer, true()))
        # As Python sorts, and not as the database's collation does.
        .order_by(*(key.collate("C") if isinstance(key.type, Text) else key for key in keys))
    )


def _raw_alone(shape: Shape) -> Subquery:
    """Exact order statistics, interpolated, of the raw rows."""
    grouping = shape.grouping
    keys = group_keys(shape, REQUESTS, TIMESTAMP)
    columns: list[ColumnElement[Any]] = [*keys, *raw_measures(shape)]
    if grouping.has_percentiles:
        columns += [
            func.percentile_cont(literal_column(repr(quantile)))
            .within_group(REQUESTS.c.latency_ms)
            .label(name)
            for name, quantile in QUANTILES.items()
        ]
    rows = select(*columns).where(*filters(shape, REQUESTS), TIMESTAMP >= START, TIMESTAMP < END)
    return grouped(rows, keys).subquery("answer")


def _merged(shape: Shape) -> Subquery:
    """Rolled up hours and raw parts, summed, with percentiles of the merged sketch."""
    grouping = shape.grouping
    late = late_hours(shape) if shape.has_late_hours else None
    branches = [rolled_up(shape, late)]
    if shape.has_head:
        branches.append(raw_part(shape, TIMESTAMP >= START, TIMESTAMP < FIRST_HOUR))
    if shape.has_tail:
        branches.append(raw_part(shape, TIMESTAMP >= LAST_HOUR, TIMESTAMP < END))
    if late is not None:
        branches.append(hour_by_hour(shape, late, REQUESTS.c.user_id == late.c.user_id))
    if shape.has_cut_hours:
        cut = select(func.unnest(CUT_HOURS).column_valued("hour")).subquery("cut")
        branches.append(hour_by_hour(shape, cut))
    parts = union_all(*branches).subquery("parts")

    keys = [parts.c[name] for name in grouping.columns]
    sums = select(*keys, *(_summed(parts, measure) for measure in grouping.measures))
    if not grouping.has_percentiles:
        return sums.group_by(*keys).subquery("answer")
    sketched = (
        sums.add_columns(Merged(parts.c[SKETCH], shape.percentiles).label(SKETCH))
        .group_by(*keys)
        .subquery("merged")
    )
    return select(
        *(column for column in sketched.c if column.name != SKETCH),
        *(
            Percentile(sketched.c[SKETCH], quantile, shape.percentiles).label(name)
            for name, quantile in QUANTILES.items()
        ),
    ).subquery("answer")


def _summed(parts: FromClause, measure: str) -> ColumnElement[Any]:
    total = func.sum(parts.c[measure])
    # A sum of bigint is numeric; it would come out as a Decimal where raw rows give an int.
    return (total if measure == "cost_usd" else cast(total, BigInteger)).label(measure)
