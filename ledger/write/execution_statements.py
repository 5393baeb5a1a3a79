"""The statements that append runs and find out what became of them.

Roles that may only append can execute all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Column,
    Executable,
    Numeric,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    column,
    false,
    func,
    literal_column,
    select,
    true,
    union_all,
)

from ledger.ddl.scopes import NARROWED_TO
from ledger.models.audit import Execution
from ledger.models.base import SCHEMA
from ledger.models.tenancy import Project, User
from ledger.write.recordset import ROWS, comparison, given

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

_TABLE: Final = Execution.metadata.tables[f"{SCHEMA}.{Execution.__tablename__}"]
_ledger = getattr(func, SCHEMA)

_IDS: Final = ARRAY(Uuid)
_projects = cast(bindparam("projects", type_=_IDS), _IDS)

APPEND: Final[Executable] = select(
    _ledger.append_executions(_projects, cast(bindparam(ROWS, type_=Text), JSON)).label("appended")
)

_narrowed_to: Final = literal_column(NARROWED_TO, Uuid())
KNOWN: Final[Executable] = union_all(
    select(
        literal_column("'user'").label("kind"),
        User.id,
        (User.id == func.coalesce(_narrowed_to, User.id)).label("is_reached"),
    ).where(User.id == any_(cast(bindparam("users", type_=_IDS), _IDS))),
    select(literal_column("'project'"), Project.id, true()).where(Project.id == any_(_projects)),
)
"""Which users and projects there are, of those that are asked for, and whether the session's
`ledger.user_id` leaves them out. A user and his project may have the same id."""

_RUN: Final = ("run_id", "parent_run_id", "project_id", "user_id", "agent_id", "status")
_PAYLOADS: Final = {
    "intent": "intent",
    "input": "input",
    "output": "output",
    "cost_json": "cost",
    "execution_trace_json": "trace",
    "error_message": "error_message",
}
"""Columns, and what their callers call them."""

_sent = (
    select(
        *given(
            [
                *(_TABLE.c[name] for name in (*_RUN, *_PAYLOADS, "created_at")),
                Column("is_dated", Boolean),
            ]
        ).c
    )
    .cte("sent")
    .prefix_with("MATERIALIZED", dialect="postgresql")
)
# Qualified, or one for text alone that somebody made in another schema would fit better.
_asked = select(func.pg_catalog.array_agg(_sent.c.run_id.distinct()).label("run_ids")).cte("asked")


def _stored_under(run_ids: ColumnElement[Any]) -> Any:  # noqa: ANN401 - SQLAlchemy's table values
    return _ledger.executions_by_run(run_ids).table_valued(
        *(column(each.name, each.type) for each in _TABLE.columns), name="found"
    )


_found = _stored_under(_asked.c.run_ids)
_stored = select(*_found.c).select_from(_asked.join(_found, true())).cte("stored")


def _differs(name: str) -> ColumnElement[bool]:
    differs: ColumnElement[bool] = _stored.c[name].is_distinct_from(_sent.c[name])
    return differs


def _amount(payload: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    return cast(payload.op("->>")(name), Numeric)


_is_there: Final = _stored.c.salt.is_not(None)
COMPARE: Final = comparison(
    _sent,
    _stored,
    ("run_id",),
    {
        **{name: _differs(name) for name in _RUN if name != "run_id"},
        # Of what is erased only the sums are left to compare.
        **{said: _is_there & _differs(name) for name, said in _PAYLOADS.items()},
        "total cost": ~_is_there
        & (_stored.c.total_cost_cents != _amount(_sent.c.cost_json, "total")),
        "duration": ~_is_there
        & (_stored.c.duration_ms != _amount(_sent.c.execution_trace_json, "duration_ms")),
        "created_at": func.coalesce(_sent.c.is_dated, false()) & _differs("created_at"),
    },
)

_one = _stored_under(cast(bindparam("run_ids", type_=ARRAY(Text)), ARRAY(Text)))
_texts = {"input", "output", "cost_json", "execution_trace_json"}
STORED: Final[Executable] = select(
    # As text: a driver would make floats of numbers.
    *(cast(each, Text).label(each.name) if each.name in _texts else each for each in _one.c)
).select_from(_one)
"""What is stored under some run_ids, JSON as its text."""
