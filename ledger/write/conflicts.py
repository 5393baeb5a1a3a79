"""What became of records that did not go in: only with the same content is it a success."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import ConflictingRecord, LedgerError
from ledger.write.commands import execute
from ledger.write.rows import called

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sqlalchemy import Executable

    from ledger.write.commands import Steps
    from ledger.write.rows import Row


class VanishedRecord(LedgerError):
    """A record was in the way of this one, and was gone when both were to be compared.

    Something deletes rows while they are written, or another transaction is not visible to this
    one. Nothing of the batch under way is stored; send it again.
    """


def conflicts(
    statement: Executable,
    rows: Mapping[int, Row],
    parameters: Mapping[str, Any] | None = None,
) -> Steps[dict[int, LedgerError]]:
    """The rows, by position, whose key is stored with other content.

    Raises VanishedRecord for one that is not stored at all.
    """
    found: dict[int, LedgerError] = {}
    for compared in (yield from execute(statement, parameters)).rows:
        if not compared.is_stored:
            raise VanishedRecord
        found[compared.position] = ConflictingRecord(
            called(rows[compared.position]), compared.differing
        )
    return found
