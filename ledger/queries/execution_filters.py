"""Which runs of the execution ledger a question is about, and what it reads of them."""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from binascii import crc_hqx
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Table,
    Text,
    Uuid,
    bindparam,
    cast,
    literal_column,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from ledger.errors import InvalidArgument
from ledger.models.audit import EXECUTION_STATUSES, Execution
from ledger.models.base import SCHEMA, Moment
from ledger.queries.columns import END, START
from ledger.queries.scope import named, uuid_of
from ledger.records.completion import EPOCH, MILLISECOND
from ledger.records.execution import ExecutionStatus
from ledger.window import Window, require_window

RUNS: Final[Table] = Execution.metadata.tables[f"{SCHEMA}.{Execution.__tablename__}"]
_UNREAD: Final = {"hash_version", "previous_hash", "payload_digests"}
"""What only a proof needs: two hundred bytes and more of each row."""
READ: Final = tuple(each.name for each in RUNS.columns if each.name not in _UNREAD)
"""The columns that `ExecutionRecord.of` reads."""

_AFTER_CREATED_AT: Final = bindparam("after_created_at", type_=Moment)
_AFTER_ID: Final = bindparam("after_id", type_=Uuid())

UNSUCCESSFUL: Final = "unsuccessful"
WINDOW: Final = "window"
_SINCE: Final = "since"
_OLDER: Final = "older"
_EQUAL: Final = ("project_id", "user_id", "agent_id", "status", "parent_run_id")
_CONDITIONS: Final[Mapping[str, tuple[ColumnElement[bool], ...]]] = {
    **{name: (RUNS.c[name] == bindparam(name, type_=RUNS.c[name].type),) for name in _EQUAL},
    # Not bound: the planner has to see that this is the condition of a partial index.
    UNSUCCESSFUL: (RUNS.c.status != literal_column("'completed'", Text),),
    WINDOW: (RUNS.c.created_at >= START, RUNS.c.created_at < END),
    _SINCE: (RUNS.c.created_at >= START,),
    # Of both at once, so that an index is entered where they stand.
    _OLDER: (tuple_(RUNS.c.created_at, RUNS.c.id) < tuple_(_AFTER_CREATED_AT, _AFTER_ID),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFilter:
    """Which runs are asked for: those that match all of it. None is no restriction.

    Ids may be text, and are kept as UUIDs. ``window`` is when they ended, and has its start and
    not its end. Raises InvalidArgument, naming the value that is wrong.
    """

    project_id: UUID | str | None = None
    user_id: UUID | str | None = None
    agent_id: str | None = None
    status: ExecutionStatus | None = None
    parent_run_id: str | None = None
    """The run that triggered them."""
    window: Window | None = None

    def __post_init__(self) -> None:
        for name in ("project_id", "user_id"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, uuid_of(given, name))
        named(self.agent_id, "agent_id")
        named(self.parent_run_id, "parent_run_id")
        if self.status is not None and self.status not in EXECUTION_STATUSES:
            raise InvalidArgument(
                f"status {self.status!r} is none of {', '.join(EXECUTION_STATUSES)}"
            )
        if self.window is not None:
            require_window(self.window)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names of what restricts, by which statements are told apart."""
        given = [each.name for each in fields(self) if getattr(self, each.name) is not None]
        # The same said twice, so that the index of what failed is known to have it.
        return (*given, *([UNSUCCESSFUL] if self.status not in {None, "completed"} else []))

    @property
    def parameters(self) -> dict[str, object]:
        """What the restrictions bind."""
        bound = {name: getattr(self, name) for name in _EQUAL}
        if self.window is not None:
            bound |= {START.key: self.window.start, END.key: self.window.end}
        return {name: value for name, value in bound.items() if value is not None}

    def after(self, cursor: str) -> tuple[tuple[str, ...], dict[str, object]]:
        """The conditions and parameters of what is older than the run that a cursor stands at.

        Either the window ends it or the cursor: with both, an index is entered at the end of the
        window, and read from there. Raises InvalidArgument for what is no cursor.
        """
        place = place_of(cursor)
        conditions, parameters = [*self.conditions], self.parameters
        if self.window is not None:
            if self.window.end <= place[_AFTER_CREATED_AT.key]:
                return self.conditions, parameters
            conditions[conditions.index(WINDOW)] = _SINCE
            del parameters[END.key]
        return (*conditions, _OLDER), parameters | place


EVERYTHING: Final = ExecutionFilter()
"""All runs that there are."""


def restricted(conditions: tuple[str, ...]) -> list[ColumnElement[bool]]:
    """What these names stand for, of the columns of `RUNS`."""
    return [each for name in conditions for each in _CONDITIONS[name]]


def columns_of(runs: FromClause) -> list[ColumnElement[Any]]:
    """The columns of `READ`. JSON is text: a driver would make floats of its numbers."""
    return [
        cast(runs.c[name], Text).label(name)
        if isinstance(runs.c[name].type, JSONB)
        else runs.c[name]
        for name in READ
    ]


def cursor_of(identity: UUID) -> str:
    """The place of a run in the order: its id, which begins with its time, and a check sum.

    24 characters, in which each bit counts, so that a place has one cursor.
    """
    raw = identity.bytes
    return urlsafe_b64encode(raw + crc_hqx(raw, 0).to_bytes(2, "big")).decode()


def place_of(cursor: str) -> dict[str, Any]:
    """What a cursor binds. Raises InvalidArgument for what never was one."""
    try:
        identity = UUID(bytes=b64decode(cursor, altchars=b"-_", validate=True)[:16])
        created_at = EPOCH + (identity.int >> 80) * MILLISECOND
        if cursor_of(identity) == cursor:
            return {_AFTER_CREATED_AT.key: created_at, _AFTER_ID.key: identity}
    except (TypeError, ValueError, OverflowError):
        pass
    raise InvalidArgument(
        f"after {cursor!r} is not a cursor; pass a page's next_cursor as it is, or leave it out"
    )
