"""What runs spent on tools and on actions, as the steps of their traces say."""

# ruff: noqa: PLR0913 - a question has as many arguments as it has; most are keywords

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from ledger.queries.execution_steps import WHOLE, Name, sums_of_steps
from ledger.queries.execution_windows import AskedRuns, require_limit
from ledger.queries.opening import SEEN_WIDTH
from ledger.queries.query import Cells, Context, Query
from ledger.records.execution_costs import StepCost, StepCosts, ToolCost, ToolCosts
from ledger.window import Interval, Window

Result = TypeVar("Result")

_WHOLE_END: Final = SEEN_WIDTH + len(WHOLE)


def tool_costs(
    context: Context,
    window: Interval | str | Window,
    *,
    at: datetime | None = None,
    project_id: UUID | str | None = None,
    agent_id: str | None = None,
    limit: int = 100,
) -> Query[ToolCosts]:
    """What runs that ended in a window spent on tools, in US cents, as their steps say.

    For each tool that a step names the runs, the steps (``calls``), their ``cost_cents`` and
    ``duration_ms``, and those with an ``error``; the ``limit`` dearest, the dearest first. A
    step that does not say what it cost adds nothing. Sums are exact, and with
    ``beyond_limit_cents``, ``without_tool_cents`` and ``unattributed_cents`` add up to what the
    runs cost. Of erased runs no steps are left: all that they cost is unattributed. Where steps
    say more than their runs cost, ``unattributed_cents`` is negative by as much.

    Of all projects and agents unless named. The window is a ``Window``, or "15M", "1H", "1D" or
    "7D" before ``at``, by default the database's clock.

    Raises InvalidArgument.
    """
    asked = AskedRuns.of(
        window, at=at, now=context.horizon.now, project_id=project_id, agent_id=agent_id
    )

    def read(rows: Sequence[Cells]) -> ToolCosts:
        whole = _whole(rows)
        return ToolCosts(
            window=asked.window,
            without_tool_cents=whole.pop("nameless_cents"),
            tools=tuple(ToolCost(tool=name, **sums) for name, sums in _named(rows)),
            **whole,
        )

    return _query("tool", context, asked, limit, read)


def step_costs(
    context: Context,
    window: Interval | str | Window,
    *,
    at: datetime | None = None,
    project_id: UUID | str | None = None,
    agent_id: str | None = None,
    limit: int = 100,
) -> Query[StepCosts]:
    """What runs that ended in a window spent on actions, in US cents, as their steps say.

    As ``tool_costs``, by the ``action`` of each step, whether it names a tool or not; every
    step has one.

    Raises InvalidArgument.
    """
    asked = AskedRuns.of(
        window, at=at, now=context.horizon.now, project_id=project_id, agent_id=agent_id
    )

    def read(rows: Sequence[Cells]) -> StepCosts:
        whole = _whole(rows)
        del whole["nameless_cents"]
        return StepCosts(
            window=asked.window,
            steps=tuple(StepCost(action=name, **sums) for name, sums in _named(rows)),
            **whole,
        )

    return _query("action", context, asked, limit, read)


def _query(
    name: Name,
    context: Context,
    asked: AskedRuns,
    limit: int,
    read: Callable[[Sequence[Cells]], Result],
) -> Query[Result]:
    require_limit(limit)
    return Query(
        statement=sums_of_steps(name, asked.columns),
        parameters={**asked.parameters, "limit": limit},
        read=read,
        context=context,
    )


def _whole(rows: Sequence[Cells]) -> dict[str, Any]:
    return dict(zip(WHOLE, rows[0][SEEN_WIDTH:_WHOLE_END], strict=True))


def _named(rows: Sequence[Cells]) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in rows:
        name, *sums = row[_WHOLE_END:]
        if name is not None:
            runs, calls, cost_cents, duration_ms, failures = sums
            yield (
                name,
                {
                    "runs": runs,
                    # Sums of bigint are numeric, so that none overflows.
                    "calls": int(calls),
                    "cost_cents": cost_cents,
                    "duration_ms": int(duration_ms),
                    "failures": int(failures),
                },
            )
