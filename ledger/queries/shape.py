"""What a statement is made for: the part of a question that decides its SQL, not its values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ledger.settings import Percentiles, Storage

if TYPE_CHECKING:
    from ledger.queries.query import Context
    from ledger.queries.route import Route
    from ledger.queries.scope import Scope


class Era(StrEnum):
    """What time is grouped by, and the name of its column."""

    NONE = ""
    BUCKET = "bucket_start"
    """Multiples of a width since the epoch."""
    DAY = "day"
    """The number of the first day's border before, counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """What a question sums, and by what."""

    measures: tuple[str, ...]
    keys: tuple[str, ...] = ()
    era: Era = Era.NONE
    has_percentiles: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what is grouped by."""
        return (self.era.value, *self.keys) if self.era else self.keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """All that a statement's SQL depends on, so that each is built and compiled once."""

    grouping: Grouping
    storage: Storage
    percentiles: Percentiles
    filters: tuple[str, ...]
    """The columns that are held to one value each."""
    reads_hours: bool
    has_head: bool
    has_tail: bool
    has_cut_hours: bool
    has_late_hours: bool

    @classmethod
    def of(cls, grouping: Grouping, *, context: Context, scope: Scope, route: Route) -> Shape:
        """The shape of a question to a database, for a scope and by a route."""
        return cls(
            grouping=grouping,
            storage=context.installed.storage,
            percentiles=context.installed.percentiles,
            filters=tuple(scope.parameters),
            reads_hours=route.hours is not None,
            has_head=route.has_head,
            has_tail=route.has_tail,
            has_cut_hours=bool(route.cut_hours),
            has_late_hours=route.hours is not None and context.horizon.has_late_hours,
        )


def bounds(route: Route) -> dict[str, object]:
    """What a route binds in the statement of its shape."""
    values: dict[str, object] = {"start": route.window.start, "end": route.window.end}
    if route.hours is not None:
        values |= {"first_hour": route.hours.start, "last_hour": route.hours.end}
    if route.cut_hours:
        values["cut_hours"] = list(route.cut_hours)
    return values
