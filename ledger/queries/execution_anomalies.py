"""Runs whose cost or duration is unusual for their agent."""

# ruff: noqa: PLR0913 - a question has as many arguments as it has; most are keywords

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from ledger.errors import InvalidArgument
from ledger.queries.execution_scores import FIELDS, unusual
from ledger.queries.execution_windows import AskedRuns, require_limit
from ledger.queries.opening import SEEN_WIDTH
from ledger.queries.query import Cells, Context, Query
from ledger.records.execution_costs import Anomaly
from ledger.records.refusal import shown
from ledger.records.tokens import GREATEST_COUNT
from ledger.window import Interval, Window, utc

HISTORY: Final = timedelta(days=30)


def anomalies(
    context: Context,
    window: Interval | str | Window,
    *,
    at: datetime | None = None,
    project_id: UUID | str | None = None,
    agent_id: str | None = None,
    threshold: float = 3.5,
    history: timedelta = HISTORY,
    least: int = 20,
    limit: int = 100,
) -> Query[list[Anomaly]]:
    """Runs that ended in a window and cost, or took, unusually much or little for their agent.

    Each is compared with the runs of the same agent, however they ended, in the time of
    ``history`` before the window begins; agents with fewer than ``least`` runs then have no
    anomalies. An anomaly is a value whose modified z-score is greater than ``threshold``,
    either way: 0.6745 * (value - median) / MAD, where MAD is the median of the absolute
    deviations from the median of that history (B. Iglewicz and D. C. Hoaglin, "How to Detect
    and Handle Outliers", ASQC Quality Press, 1993, who propose 3.5). Where MAD is 0, more than
    half of the history being alike, it is (value - median) / (1.253314 * mean absolute
    deviation from the median), as IBM Cognos Analytics has it ("Modified z score"). Where that
    is 0 too, all of the history being alike, every other value is an anomaly, whose ``score``
    is None, for infinite.

    Infinite scores come first, then the greatest, whether too much or too little, of equals
    the oldest; at most ``limit``. A run may be there twice, for its cost and its duration. Costs
    are US cents, durations milliseconds; values are exact, what is computed of them is in
    double precision, some 15 digits.

    Of all projects and agents unless named; ``project_id`` narrows the history as well. The
    window is a ``Window``, or "15M", "1H", "1D" or "7D" before ``at``, by default the
    database's clock.

    Raises InvalidArgument.
    """
    asked = AskedRuns.of(
        window, at=at, now=context.horizon.now, project_id=project_id, agent_id=agent_id
    )
    require_limit(limit)
    if type(least) is not int or not 1 <= least <= GREATEST_COUNT:
        raise InvalidArgument(f"least {shown(least)} is not a whole number of runs, at least 1")
    return Query(
        statement=unusual(asked.columns),
        parameters={
            **asked.parameters,
            "history_start": _history_start(asked.window.start, history),
            "threshold": _threshold(threshold),
            "least": least,
            "limit": limit,
        },
        # An empty answer is a row of NULLs, there to say what the statement saw.
        read=lambda rows: [
            _anomaly(row[SEEN_WIDTH:]) for row in rows if row[SEEN_WIDTH] is not None
        ],
        context=context,
    )


def _history_start(window_start: datetime, history: object) -> datetime:
    if not isinstance(history, timedelta) or history <= timedelta(0):
        raise InvalidArgument(
            f"history {shown(history)} is not a length of time; pass timedelta(days=30), say"
        )
    try:
        return window_start - history
    except OverflowError as error:
        raise InvalidArgument(
            f"history {history} before {window_start.isoformat()} reaches beyond the calendar"
        ) from error


def _threshold(threshold: object) -> float:
    if isinstance(threshold, (int, float, Decimal)) and not isinstance(threshold, bool):
        try:
            number = float(threshold)
        except (OverflowError, ValueError):  # an int beyond floats, a signalling NaN
            number = math.nan
        if 0 < number < math.inf:
            return number
    raise InvalidArgument(f"threshold {shown(threshold)} is not a number above 0; 3.5 is usual")


def _anomaly(row: Cells) -> Anomaly:
    found: dict[str, Any] = dict(zip(FIELDS, row, strict=True))
    return Anomaly(**{**found, "created_at": utc(found["created_at"])})
