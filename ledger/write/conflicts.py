"""What became of records that did not go in: only with the same content is it a success."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import ConflictingRecord, LedgerError
from ledger.write.commands import execute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from sqlalchemy import Executable

    from ledger.write.commands import Steps


class VanishedRecord(LedgerError):
    """A record was in the way of this one, and was gone when both were to be compared.

    Something deletes rows while they are written, or another transaction is not visible to this
    one. Nothing of the batch under way is stored; send it again.
    """


def conflicts(
    statement: Executable,
    called: Callable[[int], str],
    parameters: Mapping[str, Any] | None = None,
    *,
    remedy: str = "use another request_id",
    unseen: Sequence[str] = (),
) -> Steps[dict[int, LedgerError]]:
    """The records, by position, whose key is stored with other content; ``called`` names them.

    ``remedy`` is the way out of a conflict. ``unseen`` is what differs where another record is
    stored, and not to be seen; where that cannot be, VanishedRecord is raised for one that is
    not stored at all.
    """
    found: dict[int, LedgerError] = {}
    for compared in (yield from execute(statement, parameters)).rows:
        if not (compared.is_stored or unseen):
            raise VanishedRecord
        differing = compared.differing if compared.is_stored else unseen
        found[compared.position] = ConflictingRecord(called(compared.position), differing, remedy)
    return found
