"""What a question to the billing ledger reads: which sums, which rows, and what it groups by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from ledger.models.billing_sums import (
    COSTS,
    DAYS,
    DELTAS,
    HOURS,
    MODEL_DAYS,
    SUM_KEYS,
    USER_DAYS,
    USER_DELTAS,
    USER_KEYS,
)
from ledger.window import HOUR

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_DAY: Final = timedelta(days=1)


class Rows(Enum):
    """Calls that an index has of its own."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    MADE = "made"
    """Either, by an index that leads to few."""
    BY_USER = "by user"
    """Either, user after user: an index by time would have every call looked up in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsShape:
    """What decides about the statement, beyond the values it binds."""

    keys: tuple[str, ...]
    """What is grouped by, besides the period."""
    filters: tuple[str, ...]
    """Columns held to one value each."""
    levels: tuple[str | None, ...]
    """The tables that buckets are read from, by the cover's place; None where there are none."""
    rows: tuple[Rows, ...]
    """Which calls are read from rows; none where there is no rest."""
    is_restated: bool

    @property
    def deltas(self) -> str | None:
        """What waits to be folded into those tables; None where no bucket is read."""
        read = {*self.levels} - {None}
        return (USER_DELTAS if USER_DAYS in read else DELTAS) if read else None


def rows_of(filters: Mapping[str, object], keys: Collection[str] = ()) -> tuple[Rows, ...]:
    """Which rows a question that is held to these values, and groups by these, has to read."""
    if {"user_id", "project_id"} & {*filters}:
        return (Rows.MADE,)
    if "user_id" in keys:
        return (Rows.BY_USER,)
    match filters.get("status"):
        case None:
            return (Rows.SUCCEEDED, Rows.FAILED)
        case "success":
            return (Rows.SUCCEEDED,)
        case _:
            return (Rows.FAILED,)


def levels_of(names: Collection[str]) -> dict[str, timedelta]:
    """The tables of sums that know these columns, and their buckets' widths, widest first."""
    if {*names} <= {"provider_id", "status"}:
        return {DAYS: _DAY, HOURS: HOUR}
    if _are_among(names, USER_KEYS):
        return {USER_DAYS: _DAY}
    return {MODEL_DAYS: _DAY} if _are_among(names, SUM_KEYS) else {}


def levels_of_costs(names: Collection[str]) -> dict[str, timedelta]:
    """The same of the bins of costs."""
    return {COSTS: _DAY} if _are_among(names, SUM_KEYS) else {}


def _are_among(names: Collection[str], keys: Collection[tuple[str, str]]) -> bool:
    return {*names} <= {name for name, _ in keys}
