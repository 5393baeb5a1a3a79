"""What writing asks of a database, as values, so that its logic is written once.

A `Plan` is a generator that asks for transactions, one after another; the `Steps` of one are a
generator that asks for what happens inside it. The shells in `driving` answer, one of them
awaiting, and throw into the generator what failed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, TypeAlias, TypeVar

from sqlalchemy import Executable, Row, Table

from ledger.write.rows import Row as WrittenRow

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute:
    """Execute a statement; answered with an `Answer`."""

    statement: Executable
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Put rows into a table, the fastest way that the driver has; not answered."""

    table: Table
    rows: Sequence[WrittenRow]
    positions: Sequence[int] | None = None
    """Values of the table's column `position`, where it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDays:
    """Answered with the set of UTC days known to have a partition in this database.

    It belongs to the process, and whoever ensures a day adds it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a statement gave: its rows, or how many rows it changed."""

    rows: Sequence[Row[Any]]
    count: int


Command: TypeAlias = "Execute | Load | KnownDays"
Steps: TypeAlias = Generator[Command, Any, Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Atomically(Generic[Result]):
    """Take these steps in a transaction, or in a SAVEPOINT of the caller's.

    Answered with their result. What one of them raises undoes all, and is thrown into the plan.
    """

    steps: Steps[Result]


Plan: TypeAlias = Generator[Atomically[Any], Any, Result]


def execute(statement: Executable, parameters: Mapping[str, Any] | None = None) -> Steps[Answer]:
    """Execute a statement."""
    answer: Answer = yield Execute(statement=statement, parameters=parameters or {})
    return answer


def load(
    table: Table, rows: Sequence[WrittenRow], positions: Sequence[int] | None = None
) -> Steps[None]:
    """Put rows into a table."""
    yield Load(table=table, rows=rows, positions=positions)


def known_days() -> Steps[set[date]]:
    """The days known to have a partition, to be read and added to."""
    days: set[date] = yield KnownDays()
    return days


def atomically(steps: Steps[Result]) -> Plan[Result]:
    """Take steps in a transaction of their own."""
    result: Result = yield Atomically(steps=steps)
    return result
