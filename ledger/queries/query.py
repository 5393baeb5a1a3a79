"""A question to the database as a value: one statement, what it binds, how its rows are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeAlias, TypeVar

from sqlalchemy import Row, Select

from ledger.records.installation import Horizon, Installed

Result = TypeVar("Result")

# Quoted: SQLAlchemy 2.0 takes a tuple here, and the types are 2.1's.
AnySelect: TypeAlias = "Select[*tuple[Any, ...]]"
AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a query is built for: a database as it is installed, and its present moment."""

    installed: Installed
    horizon: Horizon


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Generic[Result]):
    """One statement, and how its rows become the result that the caller sees."""

    statement: AnySelect
    """Built once per shape and shared, so that SQLAlchemy compiles it once."""
    parameters: Mapping[str, object]
    read: Callable[[Sequence[AnyRow]], Result]
    reads_raw_since: datetime
    """The earliest moment whose raw rows the answer counts on."""
    kept_raw_since: datetime | None
    """Where raw rows began, as far as the statement knew; None is the beginning of time."""

    def is_outdated(self, rows: Sequence[AnyRow]) -> bool:
        """Whether raw rows that the answer counts on went before the statement ran.

        Every row begins with where raw rows began when it was read. The bounds of a statement
        are older than its rows by a round trip, and retention may have run in between.
        """
        began: datetime | None = rows[0][0] if rows else None
        if began is None or began <= self.reads_raw_since:
            return False
        return self.kept_raw_since is None or began > self.kept_raw_since
