"""Where a chain begins or ends otherwise than it should: at its head, and at a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.maintenance.audit.diagnosis import diagnosed, moved_from
from ledger.maintenance.audit.statements import AT, NEXT
from ledger.records.verification import Fault

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ledger.maintenance.audit.diagnosis import Reached
    from ledger.queries.query import AnyRow
    from ledger.records.checkpoint import Head


def end_of_chain(ends: AnyRow) -> int:
    """Up to where rows are looked at: what is beyond the head is no part of the chain."""
    if ends.last_sequence is None:
        return 0
    ends_at: list[int] = [ends.last_sequence]
    return min(ends_at if ends.head_sequence is None else [*ends_at, ends.head_sequence])


def fault_at_the_beginning(connection: Connection, ends: AnyRow, reached: Reached) -> Fault | None:
    """Where some row stands before the first, or nowhere."""
    if ends.stray_run_id is None:
        return None
    if ends.stray_sequence is not None:
        return diagnosed(connection, reached, ends.stray_sequence)
    detail = "it has no sequence, and so no place in the chain"
    return Fault(kind="changed", sequence=None, run_id=ends.stray_run_id, detail=detail)


def fault_at_the_end(connection: Connection, ends: AnyRow, reached: Reached) -> Fault | None:
    """Where the chain ends otherwise than its head says."""
    if (detail := _wrong_head(ends)) is not None:
        return Fault(kind="changed", sequence=None, run_id=None, detail=detail)
    if ends.heads is None:
        return None
    if reached.sequence < ends.head_sequence:
        return _cut_off(connection, ends, reached)
    if ends.last_sequence is not None and ends.last_sequence > ends.head_sequence:
        asked = {"project_id": reached.project_id, "after": ends.head_sequence, "skipped": 0}
        stray = connection.execute(NEXT, asked).all()[0]
        detail = f"the chain ended at row {ends.head_sequence}"
        return Fault(kind="inserted", sequence=stray.sequence, run_id=stray.run_id, detail=detail)
    if bytes(ends.head_hash) != reached.hash:
        detail = "it is not the row that the head of the chain is of"
        return Fault(
            kind="changed", sequence=reached.sequence, run_id=ends.last_run_id, detail=detail
        )
    return None


def _wrong_head(ends: AnyRow) -> str | None:
    if ends.heads is None:
        return None if ends.last_sequence is None else "the chain has no head; somebody removed it"
    if ends.heads > 1:
        return f"the chain has {ends.heads} heads"
    return "the head of the chain says nothing" if ends.head_sequence is None else None


def _cut_off(connection: Connection, ends: AnyRow, reached: Reached) -> Fault:
    place = reached.sequence + 1
    detail = f"rows {place} to {ends.head_sequence} are gone"
    truncated = Fault(kind="truncated", sequence=place, run_id=None, detail=detail)
    return moved_from(connection, reached) or truncated


def fault_against(connection: Connection, kept: Head | None, reached: Reached) -> Fault | None:
    """Where the chain does not go on from where a checkpoint saw it."""
    if kept is None or kept.sequence == 0:
        return None
    if reached.sequence < kept.sequence:
        detail = f"rows {reached.sequence + 1} to {kept.sequence} were there at the checkpoint"
        return Fault(kind="truncated", sequence=reached.sequence + 1, run_id=None, detail=detail)
    asked = {"project_id": kept.project_id, "sequence": kept.sequence}
    found = connection.execute(AT, asked).one()
    if bytes(found.hash) == kept.hash:
        return None
    detail = "up to it, history is not what the checkpoint saw; it was written anew"
    return Fault(kind="changed", sequence=kept.sequence, run_id=found.run_id, detail=detail)
