"""Which times are accepted now, and the partitions that rows of those times need."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from ledger.settings import Storage
from ledger.write.commands import execute, known_days
from ledger.write.statements import CLOCK, ENSURE_DAYS

if TYPE_CHECKING:
    from collections.abc import Collection

    from ledger.write.commands import Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What decides about a record's time, by the database's clock."""

    earliest: datetime | None
    now: datetime
    tolerance: timedelta

    def refusal(self, moment: datetime) -> str | None:
        """Why a record of this time is not accepted; None where it is."""
        said = f"timestamp {moment.isoformat(timespec='milliseconds')}"
        if self.earliest is not None and moment < self.earliest:
            return (
                f"{said}: before {self.earliest.isoformat()}, from which on raw rows are kept;"
                " `ledger retention set raw` keeps them longer from then on"
            )
        return self.too_far_ahead("timestamp", moment)

    def too_far_ahead(self, field: str, moment: datetime) -> str | None:
        """Why a record is not accepted whose time is to come; None where it is."""
        if moment <= self.now + self.tolerance:
            return None
        return (
            f"{field} {moment.isoformat(timespec='milliseconds')}: more than {self.tolerance}"
            " ahead of the database's clock,"
            f" {self.now.isoformat(timespec='milliseconds')}; set this machine's clock, or"
            " LEDGER_FUTURE_TOLERANCE"
        )


def admission(tolerance: timedelta) -> Steps[Admission]:
    """Ask the database what it accepts at this moment."""
    row = (yield from execute(CLOCK)).rows[0]
    earliest = row.raw_from.astimezone(UTC) if row.raw_from is not None else None
    return Admission(earliest=earliest, now=row.now.astimezone(UTC), tolerance=tolerance)


def ensure_days(storage: Storage, days: Collection[date]) -> Steps[None]:
    """Make what partitions of these UTC days are missing; each day is asked for once a process."""
    if storage is not Storage.POSTGRES:
        return
    known = yield from known_days()
    if missing := sorted(set(days) - known):
        yield from execute(ENSURE_DAYS, {"days": missing})
        known.update(missing)


def forget_days(storage: Storage, days: Collection[date]) -> Steps[None]:
    """Ask for these days again: retention, or a caller's rollback, took one away."""
    if storage is Storage.POSTGRES:
        (yield from known_days()).difference_update(days)
