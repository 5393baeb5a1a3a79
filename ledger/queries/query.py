"""A question to the database as a value: one statement, what it binds, how its rows are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, TypeAlias, TypeVar

from sqlalchemy import Row, Select

from ledger.queries.route import Route
from ledger.records.installation import Horizon, Installed

Result = TypeVar("Result")

# Quoted: SQLAlchemy 2.0 takes a tuple here, and the types are 2.1's.
AnySelect: TypeAlias = "Select[*tuple[Any, ...]]"
AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"
Cells: TypeAlias = "Sequence[Any]"
"""A row as any driver gives it, SQLAlchemy's among them: values by place."""

CLOCK_TOLERANCE: Final = timedelta(seconds=1)
"""How far a present that is worked out may be from the database's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a query is built for: a database as it is installed, and its present moment."""

    installed: Installed
    horizon: Horizon
    is_remembered: bool = False
    """Whether an earlier statement saw it, and its present is worked out."""

    def after(self, passed: timedelta) -> Context:
        """The same, some time later, as far as can be known without asking."""
        was = self.horizon
        return Context(
            installed=self.installed,
            horizon=Horizon(
                now=was.now + passed,
                raw_from=was.raw_from,
                watermark=was.watermark,
                has_late_hours=was.has_late_hours,
            ),
            is_remembered=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Generic[Result]):
    """One statement, and how its rows become the result that the caller sees.

    Each of its rows begins with the context that the statement saw, in its own snapshot.
    """

    statement: AnySelect
    """Built once per shape and shared, so that SQLAlchemy compiles it once."""
    parameters: Mapping[str, object]
    read: Callable[[Sequence[Cells]], Result]
    context: Context
    """What the statement was built for."""
    route: Route | None = None
    """The levels it reads; None where retention and rollups have no part in the answer."""

    def holds_in(self, seen: Context) -> bool:
        """Whether the statement suits the context that it then saw.

        That is newer by a round trip, or by any time where the first was remembered. Not where
        raw rows that the answer counts on may be gone, where hours were read that are not
        rolled up, or got rows since, nor where it was asked for another present.
        """
        known = self.context
        return (
            seen.installed == known.installed
            and (
                self.route is None
                or (
                    _has_its_raw_rows(self.route, known.horizon, seen.horizon)
                    and _has_its_hours(self.route, known.horizon, seen.horizon)
                )
            )
            and (
                not known.is_remembered
                or abs(seen.horizon.now - known.horizon.now) <= CLOCK_TOLERANCE
            )
        )


def _has_its_raw_rows(route: Route, known: Horizon, seen: Horizon) -> bool:
    if seen.raw_from is None or seen.raw_from <= route.reads_raw_since:
        return True
    # What was gone when the route was chosen, the route says.
    return known.raw_from is not None and seen.raw_from <= known.raw_from


def _has_its_hours(route: Route, known: Horizon, seen: Horizon) -> bool:
    if route.hours is None:
        return True
    is_rolled_up = seen.watermark is not None and route.hours.end <= seen.watermark
    return is_rolled_up and (known.has_late_hours or not seen.has_late_hours)
