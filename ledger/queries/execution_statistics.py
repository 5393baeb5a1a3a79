"""What runs cost and how they ended: of an agent, and of a project."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Context as DecimalContext
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Integer, Numeric, cast, literal, null, select, union_all

from ledger.errors import InvalidArgument
from ledger.models.audit import EXECUTION_STATUSES
from ledger.queries.distribution import PERCENTILE_ERROR, percentile
from ledger.queries.execution_sums import (
    MEASURES,
    AskedSums,
    answered,
    binned,
    rows_of,
    summed,
)
from ledger.queries.query import AnySelect, Cells, Context, Query
from ledger.queries.scope import asked_window, required, uuid_of
from ledger.records.amounts import exactly
from ledger.records.execution_statistics import AgentShare, CostStatistics, ExecutionStatistics
from ledger.window import Interval, Window

_OF_AVERAGES: Final = DecimalContext(prec=28)
_NOTHING: Final = Decimal(0)


def agent_cost_statistics(
    context: Context,
    agent_id: str,
    project_id: UUID | str | None = None,
    window: Interval | str | Window | None = None,
    *,
    at: datetime | None = None,
) -> Query[CostStatistics]:
    """What the runs of an agent cost, in US cents; of no runs, zeros.

    Of all projects and times, unless a ``project_id`` is given, or a ``window`` (a Window, or
    "15M", "1H", "1D", "7D" before ``at``, by default the database's clock) in which they ended.
    Count, total, average, least and greatest are exact, the moment a run is recorded; the
    percentiles are within `percentile_error`. A role that sees some runs has its answer of those.

    Raises InvalidArgument, SchemaNotReady, DatabaseUnavailable.
    """
    asked = AskedSums(
        project_id=None if project_id is None else uuid_of(project_id, "project_id"),
        agent_id=required(agent_id, "agent_id"),
        window=_window(context, window, at),
    )
    return Query(
        statement=answered(_costs(asked.filters)),
        parameters=asked.parameters,
        read=lambda rows: _cost_statistics(rows_of(rows), asked),
        context=context,
    )


def project_execution_statistics(
    context: Context,
    project_id: UUID | str,
    window: Interval | str | Window | None = None,
    *,
    at: datetime | None = None,
) -> Query[ExecutionStatistics]:
    """How the runs of a project ended, what they cost and how long they took, by agent too.

    Of all times, unless a ``window`` is given, as for `agent_cost_statistics`, in which they
    ended. All of it is exact, the moment a run is recorded. A role that sees some runs has its
    answer of those.

    Raises InvalidArgument, SchemaNotReady, DatabaseUnavailable.
    """
    asked = AskedSums(
        project_id=uuid_of(project_id, "project_id"), window=_window(context, window, at)
    )
    return Query(
        statement=answered(summed(asked.filters, ("agent_id", "status"))),
        parameters=asked.parameters,
        read=lambda rows: _execution_statistics(rows_of(rows), asked),
        context=context,
    )


def _window(
    context: Context, asked: Interval | str | Window | None, at: datetime | None
) -> Window | None:
    if asked is not None:
        return asked_window(asked, at=at, now=context.horizon.now)
    if at is not None:
        raise InvalidArgument("`at` is where an interval ends; name one, or leave `at` out")
    return None


@lru_cache(maxsize=64)
def _costs(filters: tuple[str, ...]) -> AnySelect:
    """The sums, a row that begins with 0, and the bins, rows that begin with 1."""
    sums, bins = summed(filters, ()).subquery("sums"), binned(filters).subquery("bins")
    nothing = (cast(null(), Numeric) for _ in MEASURES[1:])
    parts = union_all(
        select(literal(0, Integer).label("part"), cast(null(), Integer).label("bin"), *sums.c),
        select(literal(1, Integer), cast(bins.c.bin, Integer), bins.c.executions, *nothing),
    ).subquery("parts")
    return select(*parts.c)


@exactly
def _cost_statistics(rows: Sequence[Cells], asked: AskedSums) -> CostStatistics:
    sums = next((row[2:] for row in rows if row[0] == 0), None)
    # Sums of bigint are numeric, so that none overflows.
    bins = {row[1]: int(row[2]) for row in rows if row[0] == 1}
    executions, total, least, greatest, _ = sums or [_NOTHING for _ in MEASURES]
    count = int(executions)

    def at_rank(share: float) -> Decimal:
        found = percentile(bins, count, share)
        return _NOTHING if found is None else min(max(found, least), greatest)

    assert asked.agent_id is not None
    return CostStatistics(
        agent_id=asked.agent_id,
        project_id=asked.project_id,
        window=asked.window,
        count=count,
        total_cents=total,
        average_cents=_average(total, count),
        minimum_cents=least,
        maximum_cents=greatest,
        p50_cents=at_rank(0.5),
        p95_cents=at_rank(0.95),
        percentile_error=PERCENTILE_ERROR,
    )


@exactly
def _execution_statistics(rows: Sequence[Cells], asked: AskedSums) -> ExecutionStatistics:
    ended = dict.fromkeys(EXECUTION_STATUSES, 0)
    shares: dict[str, tuple[int, Decimal]] = {}
    total = duration = _NOTHING
    for agent_id, status, executions, cost, _, _, taken in rows:
        ended[status] = ended.get(status, 0) + int(executions)
        so_far = shares.get(agent_id, (0, _NOTHING))
        shares[agent_id] = (so_far[0] + int(executions), so_far[1] + cost)
        total, duration = total + cost, duration + taken
    count = sum(ended.values())
    assert asked.project_id is not None
    return ExecutionStatistics(
        project_id=asked.project_id,
        window=asked.window,
        total_executions=count,
        successful=ended["completed"],
        failed=ended["failed"],
        aborted=ended["aborted"],
        total_cost_cents=total,
        average_cost_cents=_average(total, count),
        average_duration_ms=_average(duration, count),
        by_agent={
            agent_id: AgentShare(executions=executions, cost_cents=cost)
            for agent_id, (executions, cost) in sorted(shares.items())
        },
    )


def _average(total: Any, count: int) -> Decimal:  # noqa: ANN401 - a numeric of the driver's
    return _OF_AVERAGES.divide(total, Decimal(count)) if count else _NOTHING
