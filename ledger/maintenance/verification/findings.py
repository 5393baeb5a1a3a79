"""What a verification has to tell a person, and how much it matters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ledger.records.plain import Record


class Severity(StrEnum):
    """How much a finding matters."""

    NOTE = "note"
    """What was not looked at, and why; it says nothing against the database."""
    WARNING = "warning"
    FAILURE = "failure"
    """Something is not as it must be: the verification fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Record):
    """One thing that was found, in a person's words."""

    severity: Severity
    about: str
    words: str

    def __str__(self) -> str:
        return f"{self.severity.capitalize()}: {self.about}: {self.words}"


def failure(about: str, words: str) -> Finding:
    """Something that must not be."""
    return Finding(severity=Severity.FAILURE, about=about, words=words)


def warning(about: str, words: str) -> Finding:
    """Something to look into."""
    return Finding(severity=Severity.WARNING, about=about, words=words)


def note(about: str, words: str) -> Finding:
    """Something that was left out."""
    return Finding(severity=Severity.NOTE, about=about, words=words)
