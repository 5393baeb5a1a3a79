"""A question with its scope and its route as a Query: statement, parameters, result."""

# ruff: noqa: PLR0913 - what makes a query up

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ledger.models.latency import RELATIVE_ERROR
from ledger.queries.opening import SEEN_WIDTH
from ledger.queries.query import Cells, Context, Query
from ledger.queries.route import Route
from ledger.queries.scope import Scope
from ledger.queries.shape import Grouping, Shape, bounds
from ledger.queries.statement import statement
from ledger.records.telemetry import Answer, Item

Result = TypeVar("Result")


def query(
    grouping: Grouping,
    context: Context,
    asked: Scope,
    way: Route,
    *,
    read: Callable[[Sequence[Cells]], Result],
    values: Mapping[str, object] | None = None,
) -> Query[Result]:
    """The query of a grouping, whose result ``read`` makes of the rows that were found."""
    first_measure = SEEN_WIDTH + len(grouping.columns)
    return Query(
        statement=statement(Shape.of(grouping, context=context, scope=asked, route=way)),
        parameters={**asked.parameters, **bounds(way), **(values or {})},
        # An empty answer is a row of NULLs, there to say what the statement saw.
        read=lambda rows: read([row[SEEN_WIDTH:] for row in rows if row[first_measure]]),
        context=context,
        route=way,
    )


def listing(
    grouping: Grouping,
    context: Context,
    asked: Scope,
    way: Route,
    *,
    read: Callable[[Sequence[Cells]], list[Item]],
    values: Mapping[str, object] | None = None,
) -> Query[Answer[Item]]:
    """The same, for results that are lists."""
    error = percentile_error(grouping, context, way)
    return query(
        grouping,
        context,
        asked,
        way,
        values=values,
        read=lambda rows: Answer(
            read(rows), window=way.window, percentile_error=error, is_exact=way.is_exact
        ),
    )


def percentile_error(grouping: Grouping, context: Context, way: Route) -> float:
    """The relative bound of the answer's percentiles; 0 where they are of raw rows, or none."""
    is_sketched = grouping.has_percentiles and way.hours is not None
    return RELATIVE_ERROR[context.installed.percentiles] if is_sketched else 0.0
