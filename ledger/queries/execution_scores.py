"""The statement that compares runs with what was usual for their agent before."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Double,
    Numeric,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    true,
    union_all,
)

from ledger.queries.columns import START
from ledger.queries.execution_filters import RUNS, restricted
from ledger.queries.execution_windows import runs
from ledger.queries.opening import seen
from ledger.records.execution_costs import Anomaly

if TYPE_CHECKING:
    from sqlalchemy import CTE, Subquery

    from ledger.queries.query import AnySelect

FIELDS: Final = tuple(Anomaly.__dataclass_fields__)

_MAD_OF_DEVIATION: Final = "0.6745"
"""The 0.75 quantile of the normal distribution: what the MAD of one with deviation 1 is."""
_DEVIATION_OF_MEAN: Final = "1.253314"
"""The root of pi / 2: the deviation of a normal distribution by its mean absolute deviation."""

_OF_A_RUN: Final = ("id", "agent_id", "project_id", "created_at")
_MEASURES: Final = {"cost": "total_cost_cents", "duration": "duration_ms"}

_HISTORY_START: Final = bindparam("history_start", type_=DateTime(timezone=True))
_LEAST: Final = bindparam("least", type_=BigInteger())
_THRESHOLD: Final[ColumnElement[float]] = bindparam("threshold", type_=Double())
_LIMIT: Final = bindparam("limit", type_=BigInteger())
_ZERO: Final[ColumnElement[Any]] = literal_column("0")


@lru_cache
def unusual(columns: tuple[str, ...]) -> AnySelect:
    """Each agent's history is read twice by an index that covers it, and runs' names at last."""
    current = (
        select(*runs(columns, *_OF_A_RUN, *_MEASURES.values()).c)
        .cte("current")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    scored = _scored(current, _usual(current, columns))
    answer = (
        select(*scored.c)
        .where(or_(scored.c.score.is_(None), func.abs(scored.c.score) > _THRESHOLD))
        .order_by(*_most_extreme(scored))
        .limit(_LIMIT)
        .subquery("answer")
    )
    found = seen()
    return (
        select(
            *found.c, *(RUNS.c.run_id if name == "run_id" else answer.c[name] for name in FIELDS)
        )
        .select_from(found.outerjoin(answer.join(RUNS, RUNS.c.id == answer.c.id), true()))
        .order_by(*_most_extreme(answer))
    )


def _usual(current: CTE, columns: tuple[str, ...]) -> CTE:
    """What is usual for each agent of the window that has a history: medians, deviations."""
    agents = select(current.c.agent_id).distinct().subquery("agents")
    history = (
        RUNS.c.agent_id == agents.c.agent_id,
        RUNS.c.created_at >= _HISTORY_START,
        RUNS.c.created_at < START,
        *restricted(columns),
    )
    values = {measure: cast(RUNS.c[column], Double) for measure, column in _MEASURES.items()}
    medians = (
        select(
            func.count().label("runs"),
            *(_median(value).label(measure) for measure, value in values.items()),
        )
        .where(*history)
        .lateral("medians")
    )
    distances: dict[str, ColumnElement[float]] = {
        measure: func.abs(value - medians.c[measure], type_=Double())
        for measure, value in values.items()
    }
    spread = (
        select(*(_deviation(distance).label(measure) for measure, distance in distances.items()))
        .where(*history)
        .lateral("spread")
    )
    return (
        select(
            agents.c.agent_id,
            *(medians.c[measure].label(f"{measure}_median") for measure in _MEASURES),
            *(spread.c[measure].label(f"{measure}_deviation") for measure in _MEASURES),
        )
        .select_from(agents.join(medians, medians.c.runs >= _LEAST).join(spread, true()))
        .cte("usual")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )


def _scored(current: CTE, usual: CTE) -> Subquery:
    """Each value of the window that is not the median itself; a score without end is NULL."""
    scored = []
    for measure, column in _MEASURES.items():
        value = current.c[column]
        median, deviation = usual.c[f"{measure}_median"], usual.c[f"{measure}_deviation"]
        distance = cast(value, Double) - median
        scored.append(
            select(
                *(current.c[name] for name in _OF_A_RUN),
                literal_column(f"'{measure}'", Text).label("measure"),
                cast(value, Numeric).label("value"),
                median.label("median"),
                deviation.label("deviation"),
                (distance / func.nullif(deviation, _ZERO, type_=Double())).label("score"),
            )
            .select_from(current.join(usual, usual.c.agent_id == current.c.agent_id))
            .where(distance != _ZERO)
        )
    return union_all(*scored).subquery("scored")


def _median(value: ColumnElement[Any]) -> ColumnElement[float]:
    return func.percentile_cont(literal_column("0.5")).within_group(value)


def _deviation(distance: ColumnElement[Any]) -> ColumnElement[float]:
    by_median = _median(distance) / literal_column(_MAD_OF_DEVIATION, Double)
    by_mean: ColumnElement[float] = func.avg(distance, type_=Double()) * literal_column(
        _DEVIATION_OF_MEAN, Double
    )
    return func.coalesce(func.nullif(by_median, _ZERO, type_=Double()), by_mean)


def _most_extreme(scored: Subquery) -> list[ColumnElement[Any]]:
    return [
        func.abs(scored.c.score).desc().nulls_first(),
        scored.c.created_at,
        scored.c.id,
        scored.c.measure,
    ]
