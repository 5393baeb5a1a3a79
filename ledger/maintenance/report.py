"""What one run of maintenance did, and what it found that a person has to look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from ledger.records.plain import Record
from ledger.settings import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceReport(Record):
    """What a run did. On TimescaleDB the database does most of it, and most counts stay 0."""

    storage: Storage
    at: datetime
    """When the run ended, by the database's clock, in UTC."""
    raw_from: datetime | None
    """Raw rows before it may be gone; None is the beginning of time."""
    watermark: datetime | None
    """Every hour before it was rolled up; None where nothing was yet."""
    partitions_made: int = 0
    groups_waiting: int | None = 0
    """(hour, user) pairs in ended hours that are still to be rolled up; None where another
    session is at it."""
    days_retired: tuple[date, ...] = ()
    """Days (UTC) of raw rows that retention removed."""
    minute_rows_deleted: int = 0
    hour_rows_deleted: int = 0
    deltas_folded: int = 0
    """Sums of single inserts into the billing ledger that were added to those of whole hours."""
    problems: tuple[str, ...] = ()
    """What keeps the books from being current, each with the way out."""

    @property
    def is_healthy(self) -> bool:
        """Whether there is nothing for a person to do."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON: times as ISO 8601 in UTC."""
        # Not super(): a slotted dataclass is another class than the one that super() remembers.
        return {**Record.to_dict(self), "is_healthy": self.is_healthy}
