"""The statement that sums what steps of runs say, by tool or by action."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Numeric,
    Text,
    and_,
    bindparam,
    case,
    cast,
    column,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

from ledger.queries.execution_windows import runs
from ledger.queries.opening import seen
from ledger.records.tokens import GREATEST_COUNT

if TYPE_CHECKING:
    from sqlalchemy import CTE, Subquery

    from ledger.queries.query import AnySelect

Name: TypeAlias = Literal["tool", "action"]
"""What steps are summed by."""

WHOLE: Final = ("runs", "total_cents", "beyond_limit_cents", "nameless_cents", "unattributed_cents")
"""What each row says of all runs, before what it says of a name."""

_BELOW: Final = {"cost_cents": 10**12, "duration_ms": GREATEST_COUNT + 1}
"""What numbers of a step have to be less than, to be taken by the ledger."""
_SUMS: Final = ("calls", "cost_cents", "duration_ms", "failures")
_LIMIT: Final = bindparam("limit", type_=BigInteger())
_ZERO: Final[ColumnElement[Any]] = literal_column("0")


@lru_cache
def sums_of_steps(name: Name, columns: tuple[str, ...]) -> AnySelect:
    """WHOLE, a name, its runs and _SUMS: a row for each of the dearest, or one without a name."""
    said = _said(name, columns)
    sums = (
        select(
            said.c.name,
            func.count().label("runs"),
            *(func.sum(said.c[each]).label(each) for each in _SUMS),
        )
        .group_by(said.c.name)
        .cte("sums")
    )
    # Names as Python sorts them, and not as the database's collation does.
    dearest = [sums.c.cost_cents.desc(), sums.c.calls.desc(), sums.c.name.collate("C")]
    ranked = (
        select(*sums.c, func.row_number().over(order_by=dearest).label("place"))
        .where(sums.c.name.is_not(None))
        .cte("ranked")
    )
    every = runs(columns, "total_cost_cents")
    total = _total(every.c.total_cost_cents)
    whole = (
        select(func.count().label("runs"), total.label("total_cents"))
        .select_from(every)
        .subquery("whole")
    )
    found = seen()
    answer = select(*ranked.c).where(ranked.c.place <= _LIMIT).subquery("answer")
    return (
        select(
            *found.c,
            *whole.c,
            _cost(ranked, ranked.c.place > _LIMIT).label("beyond_limit_cents"),
            _cost(sums, sums.c.name.is_(None)).label("nameless_cents"),
            (whole.c.total_cents - _cost(sums, true())).label("unattributed_cents"),
            *(each for each in answer.c if each.name != "place"),
        )
        .select_from(found.join(whole, true()).outerjoin(answer, true()))
        .order_by(answer.c.place)
    )


def _said(name: Name, columns: tuple[str, ...]) -> Subquery:
    """What the steps of each run say, a row for each name that the run has in them.

    Summed run by run, so that who counts the runs of a tool has not to tell them apart.
    """
    each = runs(columns, "execution_trace_json")
    listed = each.c.execution_trace_json.op("->")(_key("steps"))
    steps: Any = (
        func.jsonb_array_elements(
            case((_kind(listed) == _key("array"), listed), else_=literal_column("'[]'::jsonb"))
        )
        .table_valued(column("step", JSONB))
        .render_derived(name="steps")
    )
    step = steps.c.step
    said: ColumnElement[str] = step.op("->>", return_type=Text())(_key(name))
    own = (
        select(
            case((_kind(_of(step, name)) == _key("string"), said)).label("name"),
            func.count().label("calls"),
            _total(_number(step, "cost_cents")).label("cost_cents"),
            _total(func.trunc(_number(step, "duration_ms"))).label("duration_ms"),
            func.count().filter(_kind(_of(step, "error")) != _key("null")).label("failures"),
        )
        .select_from(steps)
        .where(_kind(_of(step, "action")) == _key("string"))
        .group_by(literal_column("1"))
        .lateral("own")
    )
    return select(*own.c).select_from(each.join(own, true())).subquery("said")


def _cost(sums: CTE, which: ColumnElement[bool]) -> ColumnElement[Any]:
    return select(_total(sums.c.cost_cents)).where(which).scalar_subquery()


def _total(amount: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(amount), _ZERO)


def _number(step: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    """The number in the step, if there is one that the ledger takes.

    Who may append can append JSON that this package would not, and none of it may break the
    answer. A CASE is tried in order, where the conditions of a WHERE may be in any.
    """
    value = cast(_of(step, name), Numeric)
    is_taken = and_(value >= _ZERO, value < literal_column(str(_BELOW[name])))
    return case((_kind(_of(step, name)) == _key("number"), case((is_taken, value))))


def _of(step: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    return step.op("->")(_key(name))


def _kind(value: ColumnElement[Any]) -> ColumnElement[str]:
    """What JSON it is; NULL where there is none."""
    return func.jsonb_typeof(value, type_=Text())


def _key(word: str) -> ColumnElement[str]:
    return literal_column(f"'{word}'", Text)
