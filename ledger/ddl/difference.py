"""What `ledger db check` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NOT_BY_THIS_ROLE: Final = "cannot be compared by this role"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing in the database that is not as declared, in a person's words."""

    object: str
    problem: str
    is_warning: bool = False
    """A thing that works and should not be; it does not make the check fail."""

    @property
    def is_unseen(self) -> bool:
        """Whether nobody knows, as only the ledger's owner may compare it."""
        return self.problem.startswith(NOT_BY_THIS_ROLE)

    def __str__(self) -> str:
        return f"{self.object}: {self.problem}"
