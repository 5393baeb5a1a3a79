"""Runs in bulk, oldest first: the statements of a stream, and of a CSV export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    TextClause,
    TextualSelect,
    Uuid,
    bindparam,
    literal_column,
    select,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, Executable
from sqlalchemy.sql.compiler import SQLCompiler

from ledger.errors import InvalidArgument
from ledger.queries.csv_cells import CsvExport, cell, ends_of, within_window
from ledger.queries.execution_filters import (
    RUNS,
    UNSUCCESSFUL,
    WINDOW,
    ExecutionFilter,
    columns_of,
    restricted,
)
from ledger.queries.query import AnySelect, Cells
from ledger.queries.scope import uuid_of
from ledger.window import Window, require_window

_FOUND_BY_TIME: Final = frozenset(
    {"project_id", "user_id", "agent_id", "parent_run_id", UNSUCCESSFUL}
)
"""Restrictions of which an index has the rows by time, or which few rows have."""
_FIRST_ID, _END_ID = (bindparam(name, type_=Uuid()) for name in ("first_id", "end_id"))

FIRST_ROWS: Final = 32
_MOST_ROWS: Final = 512
_MOST_CHARACTERS: Final = 4 * 1024 * 1024

_COLUMNS: Final = columns_of(RUNS)
_NUMBERS: Final = count(1)

_ONE_OF_A_FEW: Final = frozenset({"status"})
"""Text columns whose words a CHECK lists."""
_ALL: Final[ColumnElement[int]] = literal_column("(SELECT NULL::bigint)")
"""A limit that is none, which the planner does not see: it takes it for a tenth of the rows, and
an index that has them in order for cheaper than to sort a million of them."""


class Declare(Executable, ClauseElement):
    """DECLARE of a cursor on the server, which reads a statement once and forward.

    One that is held has no need of a transaction; the server keeps a copy of its rows.
    """

    inherit_cache = False

    def __init__(self, name: str, statement: AnySelect, *, is_held: bool) -> None:
        self.name, self.statement, self.is_held = name, statement, is_held


@compiles(Declare)
def _declare(element: Declare, compiler: SQLCompiler, **options: Any) -> str:
    held = " WITH HOLD" if element.is_held else ""
    statement = compiler.process(element.statement, **options)
    return f"DECLARE {element.name} NO SCROLL CURSOR{held} FOR {statement}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionStream:
    """Which runs are streamed: a statement, what it binds, and the name of its cursor.

    By a cursor in SQL, which is the same by every driver; asyncpg's own stays open, once it is
    begun, until its transaction ends.
    """

    statement: AnySelect
    parameters: Mapping[str, object]
    cursor: str = field(default_factory=lambda: f"ledger_executions_{next(_NUMBERS)}")
    """No other stream's of this process: several may be under way on one connection."""

    def declared(self, *, is_held: bool) -> Declare:
        """What begins it."""
        return Declare(self.cursor, self.statement, is_held=is_held)

    def next_rows(self, rows: int) -> TextualSelect:
        """What gives the next rows, as many as that or, at the end, fewer."""
        return text(f"FETCH FORWARD {rows} FROM {self.cursor}").columns(*_COLUMNS)

    @property
    def closed(self) -> TextClause:
        """What ends it."""
        return text(f"CLOSE {self.cursor}")


def execution_stream(asked: ExecutionFilter) -> ExecutionStream:
    """The runs that match, oldest first, by id within a millisecond. Raises InvalidArgument."""
    if not isinstance(asked, ExecutionFilter):
        raise InvalidArgument(f"{asked!r} is not an ExecutionFilter")
    if not _FOUND_BY_TIME.isdisjoint(asked.conditions):
        return ExecutionStream(statement=_by_time(asked.conditions), parameters=asked.parameters)
    # At most a window, and that they completed.
    conditions = tuple(name for name in asked.conditions if name != WINDOW)
    bound: dict[str, object] = {name: getattr(asked, name) for name in conditions}
    if asked.window is not None:
        ends = ends_of(asked.window)
        bound |= {_FIRST_ID.key: _least_id(ends["start"]), _END_ID.key: _least_id(ends["end"])}
    return ExecutionStream(
        statement=_by_id(conditions, has_window=asked.window is not None), parameters=bound
    )


def rows_after(wanted: int, rows: Sequence[Cells]) -> int:
    """How many rows to fetch after these: a run may have some megabytes, or a hundred bytes.

    Powers of two, as each number is another statement.
    """
    characters = sum(len(value) for row in rows for value in row if isinstance(value, str))
    of_that_size = max(1, _MOST_CHARACTERS * len(rows) // characters)
    return min(2 * wanted, _MOST_ROWS, 1 << of_that_size.bit_length() - 1)


def execution_export(project_id: UUID | str, window: Window) -> CsvExport:
    """The runs of a project that ended in a window, oldest first. Raises InvalidArgument."""
    return CsvExport(
        # As text, since not every driver can write a UUID.
        parameters={
            "project_id": str(uuid_of(project_id, "project_id")),
            **ends_of(require_window(window)),
        },
        statement=_EXPORT,
    )


_EXPORT: Final[AnySelect] = (
    select(*(cell(column, column, of_a_few=_ONE_OF_A_FEW) for column in RUNS.columns))
    .where(*restricted(("project_id",)), *within_window(RUNS.c.created_at))
    .order_by(RUNS.c.created_at, RUNS.c.id)
    .limit(_ALL)
)


@lru_cache
def _by_time(conditions: tuple[str, ...]) -> AnySelect:
    return select(*_COLUMNS).where(*restricted(conditions)).order_by(RUNS.c.created_at, RUNS.c.id)


@lru_cache
def _by_id(conditions: tuple[str, ...], *, has_window: bool) -> AnySelect:
    """The same order: an id begins with the milliseconds of created_at, as a CHECK says.

    There is no index of all rows by time, and to sort them would take as much room again.
    """
    within = (RUNS.c.id >= _FIRST_ID, RUNS.c.id < _END_ID) if has_window else ()
    return select(*_COLUMNS).where(*restricted(conditions), *within).order_by(RUNS.c.id)


def _least_id(milliseconds: int) -> UUID:
    """What no id of that time, or a later one, is less than. No run ended before 1970."""
    return UUID(int=max(milliseconds, 0) << 80)
