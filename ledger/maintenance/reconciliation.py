"""What reconciling found: which hours were compared, and every difference."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from ledger.records.plain import Record, plain
from ledger.window import HOUR, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Record):
    """One measure of one group that a rollup has otherwise than its raw rows.

    A group that only one side has is one difference, in its requests; the other side is None.
    """

    level: str
    """The rollup: ``llm_metrics_1m`` or ``llm_metrics_1h``."""
    bucket: datetime
    user_id: UUID
    provider: str
    model: str
    measure: str
    """A column of the rollup.

    Of ``latency_sketch`` either side is how many latencies it counts. Where that is the same,
    it counts others.
    """
    raw: int | Decimal | None
    """What the raw rows add up to."""
    rollup: int | Decimal | None
    """What the rollup says."""
    awaits_refresh: bool = False
    """Rows came after the hour was rolled up, and the next refresh takes them in."""

    def __str__(self) -> str:
        values = (
            f"counts {_shown(self.raw)} latencies on either side, but not the same ones"
            if self.raw == self.rollup
            else f"is {_shown(self.rollup)} in the rollup, {_shown(self.raw)} in the raw rows"
        )
        words = (
            f"{self.level} {self.bucket.isoformat()} {self.user_id} {self.provider}/{self.model}:"
            f" {self.measure} {values}"
        )
        return f"{words}; the next refresh takes it in" if self.awaits_refresh else words


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation(Record):
    """The rollups of a window against the raw rows that they were made of."""

    asked: Window
    compared: Window | None
    """The whole hours that could be compared: raw rows are kept, and they are rolled up.

    None where there is none.
    """
    requests: int
    """Raw rows in those hours."""
    groups_left_out: int
    """(hour, user) pairs that were not compared as they await a refresh; until then every read
    takes them from raw rows, so that nothing can differ."""
    differences: tuple[Difference, ...]
    """The first of them, by time, level and user."""
    differences_found: int
    """All of them, also those beyond the ones kept."""

    @property
    def hours_compared(self) -> int:
        """How many whole hours were compared."""
        return 0 if self.compared is None else self.compared.length // HOUR

    @property
    def is_clean(self) -> bool:
        """Whether nothing differs, which is the expected answer."""
        return self.differences_found == 0

    @property
    def is_complete(self) -> bool:
        """Whether every hour that the window touches was compared."""
        return self.compared == self.asked.widened(HOUR)

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON: money as text, times as ISO 8601 in UTC."""
        return {
            **Record.to_dict(self),
            "hours_compared": self.hours_compared,
            "is_clean": self.is_clean,
            "is_complete": self.is_complete,
        }


def _shown(value: int | Decimal | None) -> str:
    return "missing" if value is None else str(plain(value))
