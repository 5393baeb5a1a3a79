"""What is wrong with the first row of a chain that does not hold, in a person's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from ledger.ddl.execution_hashing import HASH_VERSION
from ledger.maintenance.audit.statements import AROUND, AT, LINKED_TO, ORIGINAL_PLACE
from ledger.models.audit_checks import HASH_BYTES, PAYLOADS
from ledger.records.verification import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from ledger.queries.query import AnyRow
    from ledger.records.verification import FaultKind

_NEVER_WRITTEN: Final = "nobody appended it: it does not belong to the chain"


class Reached(NamedTuple):
    """The last row of a chain that holds; before the first one 0, and 32 bytes of zeros."""

    project_id: UUID
    sequence: int
    hash: bytes


def diagnosed(connection: Connection, before: Reached, sequence: int) -> Fault:
    """What is wrong with the row of that sequence, which follows the last one that holds."""
    place = before.sequence + 1
    asked = {"project_id": before.project_id, "sequence": sequence}
    rows = connection.execute(AROUND, asked).all()
    if sequence < place:
        return _doubled(connection, rows, before)
    if sequence > place:
        detail = f"rows {place} to {sequence - 1} are gone"
        missing = Fault(kind="missing", sequence=place, run_id=None, detail=detail)
        return moved_from(connection, before) or missing
    successor = _elsewhere(connection, before, place)
    row, following = rows[0], rows[1] if len(rows) > 1 else None
    if following is not None and following.sequence == place:
        return _doubled(connection, rows, before)
    if bytes(row.previous_hash) == before.hash:
        return _of_linked(row, following, successor)
    return _of_unlinked(connection, before, row, following, successor)


def _doubled(connection: Connection, rows: Sequence[AnyRow], before: Reached) -> Fault:
    """Of rows in one place, or in one that no row has, the one that was not appended there."""
    place = rows[0].sequence
    linked = {bytes(row.previous_hash) for row in rows if row.sequence > place}
    strays = [row for row in rows if row.sequence == place and bytes(row.hash) not in linked]
    moved = [row for row in rows if row.sequence == place and row.hash != row.rehashed]
    if len(moved) == 1 and (original := _original_place(connection, moved[0], before)) is not None:
        return _fault("reordered", moved[0], f"it was appended as row {original}")
    stray = (moved or strays or rows)[0]
    held = f"row {place} is there twice" if 0 < place <= before.sequence + 1 else _NEVER_WRITTEN
    return _fault("inserted", stray, held)


def _of_linked(row: AnyRow, following: AnyRow | None, successor: AnyRow | None) -> Fault:
    """A row that says it comes after the one before, and is not what was hashed."""
    if successor is not None:
        return _fault("inserted", row, _NEVER_WRITTEN)
    if bytes(row.hash) == bytes(row.rehashed):
        is_of_version = row.hash_version == HASH_VERSION
        detail = "it says that it is hashed by another version than it is"
        return _fault("changed", row, _changed_payload(row) if is_of_version else detail)
    if following is not None and bytes(following.previous_hash) == bytes(row.rehashed):
        return _fault("changed", row, "its hash is not that of what it says")
    return _fault("changed", row, "what it says is not what was hashed")


def _of_unlinked(
    connection: Connection,
    before: Reached,
    row: AnyRow,
    following: AnyRow | None,
    successor: AnyRow | None,
) -> Fault:
    """A row that does not say that it comes after the one before."""
    original = _original_place(connection, row, before)
    if original == before.sequence and before.sequence > 0:
        # Two rows come after the same one, and this one is what was appended.
        return _at(connection, before, "inserted", _NEVER_WRITTEN)
    if original is not None and original != row.sequence:
        return _fault("reordered", row, f"it was appended as row {original}")
    if successor is not None:
        return _fault("inserted", row, _NEVER_WRITTEN)
    is_itself = bytes(row.hash) == bytes(row.rehashed)
    is_followed = following is None or bytes(following.previous_hash) == bytes(row.hash)
    if is_itself and is_followed and before.sequence > 0:
        detail = f"it was replaced: row {row.sequence} was appended after another one"
        return _at(connection, before, "changed", detail)
    return _fault("changed", row, "it does not say that it comes after the row before it")


def _changed_payload(row: AnyRow) -> str:
    """Which payload of a row is not what it was; its hash holds."""
    if row.salt is None and not row.has_erasure:
        return "its payloads were erased, and there is no record of it"
    if row.salt is None and not row.is_erased:
        return "it is erased, and its payloads are not what erasing leaves"
    if row.salt is not None and row.has_erasure:
        return "there is a record of its erasure, and its payloads are there"
    if row.salt is None and not row.totals_hold:
        return "total_cost_cents or duration_ms is not what cost_json and the trace say"
    found, wanted = bytes(row.digests), bytes(row.payload_digests)
    parts = (slice(place * HASH_BYTES, (place + 1) * HASH_BYTES) for place in range(len(PAYLOADS)))
    changed = [
        name for name, part in zip(PAYLOADS, parts, strict=True) if found[part] != wanted[part]
    ]
    if len(changed) == len(PAYLOADS):
        return "its salt is not the one that its payloads were hashed with"
    return f"{' and '.join(changed)} is not what was recorded"


def _original_place(connection: Connection, row: AnyRow, before: Reached) -> int | None:
    asked = {"project_id": before.project_id, "sequence": row.sequence, "hash": row.hash}
    place: int | None = connection.execute(ORIGINAL_PLACE, asked).scalar()
    return place


def _elsewhere(connection: Connection, before: Reached, place: int) -> AnyRow | None:
    """The row that comes after that one, and does not stand there."""
    asked = {"project_id": before.project_id, "hash": before.hash, "sequence": place}
    return connection.execute(LINKED_TO, asked).first()


def moved_from(connection: Connection, before: Reached) -> Fault | None:
    """The row that was appended after the last one that holds, where it stands elsewhere."""
    place = before.sequence + 1
    found = _elsewhere(connection, before, place)
    return None if found is None else _fault("reordered", found, f"it was appended as row {place}")


def _at(connection: Connection, place: Reached, kind: FaultKind, detail: str) -> Fault:
    asked: dict[str, UUID | int] = {"project_id": place.project_id, "sequence": place.sequence}
    found = connection.execute(AT, asked).first()
    run_id = None if found is None else found.run_id
    return Fault(kind=kind, sequence=place.sequence, run_id=run_id, detail=detail)


def _fault(kind: FaultKind, row: AnyRow, detail: str) -> Fault:
    return Fault(kind=kind, sequence=row.sequence, run_id=row.run_id, detail=detail)
