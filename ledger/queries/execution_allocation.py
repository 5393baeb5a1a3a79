"""What runs cost, shared out by rules: the database sums, and the records divide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from sqlalchemy import func, select, true

from ledger.queries.execution_windows import AskedRuns, runs
from ledger.queries.opening import SEEN_WIDTH, seen
from ledger.queries.query import AnySelect, Cells, Context, Query
from ledger.records.allocation import AllocationRule, Condition, CostAllocation, CostSum
from ledger.records.allocation_shares import allocated, shares_of
from ledger.window import Interval, Window


def allocate_costs(
    context: Context,
    rules: Sequence[AllocationRule],
    window: Interval | str | Window,
    *,
    at: datetime | None = None,
    project_id: UUID | str | None = None,
) -> Query[CostAllocation]:
    """What the runs that ended in a window cost, shared out by rules, in US cents.

    Rules about the same agent, project and user belong together and share out what matching
    runs cost: by their shares, which add up to 1, or in equal parts. A run that several such
    groups match is decided by the one whose first rule comes first; what none matches is
    ``unallocated_cents``. Runs that failed or were aborted cost what they cost, and erased ones
    too. All sums are exact: what cannot be divided to 1e-12 cents is given to those who lost
    most by rounding, by the method of largest remainders, of equals to the rule that comes first.

    Of all projects unless ``project_id`` names one. The window is a ``Window``, or "15M", "1H",
    "1D" or "7D" before ``at``, by default the database's clock.

    Raises InvalidArgument, also for shares of a condition that do not add up to 1.
    """
    shares = shares_of(rules)
    asked = AskedRuns.of(window, at=at, now=context.horizon.now, project_id=project_id)
    keys = tuple(
        name
        for name in Condition._fields
        if any(getattr(condition, name) is not None for condition in shares)
    )
    return Query(
        statement=_statement(keys, asked.columns),
        parameters=asked.parameters,
        read=lambda rows: allocated(shares, _sums(keys, rows), asked.window),
        context=context,
    )


def _sums(keys: tuple[str, ...], rows: Sequence[Cells]) -> Iterator[CostSum]:
    for row in rows:
        *values, count, cost_cents = row[SEEN_WIDTH:]
        # An empty answer is a row of NULLs, there to say what the statement saw.
        if cost_cents is not None:
            condition = Condition(**dict(zip(keys, values, strict=True)))
            yield CostSum(condition=condition, runs=count, cost_cents=cost_cents)


@lru_cache
def _statement(keys: tuple[str, ...], columns: tuple[str, ...]) -> AnySelect:
    """The sums by what rules ask for and no more: of users there may be a million."""
    each = runs(columns, *keys, "total_cost_cents")
    by = [each.c[name] for name in keys]
    count, cost = func.count(), func.sum(each.c.total_cost_cents)
    answer = (
        select(*by, count.label("runs"), cost.label("cost_cents"))
        .select_from(each)
        .group_by(*by)
        .subquery("answer")
    )
    found = seen()
    return select(*found.c, *answer.c).select_from(found.outerjoin(answer, true()))
