"""What a verification of the execution ledger found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from ledger.records.plain import Record

FaultKind = Literal["changed", "missing", "inserted", "reordered", "truncated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault(Record):
    """The first row of a chain that is not as it was written, and what is wrong with it."""

    kind: FaultKind
    """`truncated` is missing at the end."""
    sequence: int | None
    """Its place in the chain; None where rows are missing and nobody can tell which."""
    run_id: str | None
    """As it is stored; None of a row that is missing."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Record):
    """Whether the chain of one project holds, from its first row to its head."""

    project_id: UUID
    is_intact: bool
    rows: int
    """How many hold, before the first that does not."""
    erased: int
    """How many of them had their payloads erased, each with its record."""
    first_fault: Fault | None
    checkpoint_taken_at: datetime | None
    """Of the checkpoint that the chain was held against; None where there was none of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerVerification(Record):
    """Whether all chains hold, and what guards them is still in place."""

    is_intact: bool
    projects: tuple[Verification, ...]
    """In the order of their ids."""
    unguarded: tuple[str, ...]
    """What the database lacks of what keeps rows from being changed, in a person's words."""
    not_compared: tuple[str, ...]
    """What of it this role cannot tell, as only the ledger's owner can compare it."""

    @classmethod
    def of(
        cls,
        projects: tuple[Verification, ...],
        unguarded: tuple[str, ...],
        not_compared: tuple[str, ...],
    ) -> Self:
        """What chains and guards come to."""
        return cls(
            is_intact=not unguarded and all(project.is_intact for project in projects),
            projects=projects,
            unguarded=unguarded,
            not_compared=not_compared,
        )
