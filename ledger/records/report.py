"""What became of the records of one bulk write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

KEPT_REJECTIONS: Final = 1_000
"""So that a report of a million bad records has the size of one of a thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """One record that was not written."""

    index: int
    """Its place in what was sent, from 0."""
    reason: str
    error: str
    """The name of the error that writing it alone raises, for example `ConflictingRecord`."""

    def to_dict(self) -> dict[str, Any]:
        return {"index": self.index, "reason": self.reason, "error": self.error}


def rejected(index: int, error: Exception) -> Rejected:
    """The record at this place, and why it was not written."""
    return Rejected(index=index, reason=str(error), error=type(error).__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteReport:
    """How many records were written, were there already, or were rejected.

    `rejected` holds the first 1,000; `rejected_count` counts all of them.
    """

    inserted: int = 0
    duplicates: int = 0
    """Records that were stored before with the same content, or sent more than once."""
    rejected: tuple[Rejected, ...] = ()
    rejected_count: int = 0

    def __add__(self, other: WriteReport) -> WriteReport:
        return WriteReport(
            inserted=self.inserted + other.inserted,
            duplicates=self.duplicates + other.duplicates,
            rejected=(self.rejected + other.rejected)[:KEPT_REJECTIONS],
            rejected_count=self.rejected_count + other.rejected_count,
        )

    def to_dict(self) -> dict[str, Any]:
        """The same, of JSON's types only."""
        return {
            "inserted": self.inserted,
            "duplicates": self.duplicates,
            "rejected": [rejected.to_dict() for rejected in self.rejected],
            "rejected_count": self.rejected_count,
        }
