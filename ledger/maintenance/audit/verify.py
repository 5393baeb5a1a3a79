"""Verifying chains: from the first row to the head, a share of them at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from ledger.ddl import append_only, execution_chain, running_sums
from ledger.ddl.compare import differences
from ledger.ddl.declared import EXECUTION_RUNNING_SUMS, EXECUTION_SUM_TABLES
from ledger.ddl.execution_appending import ERASURES, HEADS, LEDGER
from ledger.ddl.execution_hashing import CHAINED
from ledger.ddl.scopes import SCOPED_PROJECTS, SCOPED_USERS, SEES_ALL
from ledger.ddl.search_path import trusted
from ledger.errors import UnknownReference
from ledger.maintenance.audit.diagnosis import Reached, diagnosed
from ledger.maintenance.audit.erasures import fault_of_erasures
from ledger.maintenance.audit.sight import require_every_run, require_project, sees_every_run
from ledger.maintenance.audit.statements import (
    AT,
    CHAIN,
    ENDS,
    IS_KNOWN,
    NEXT,
    PROJECTS,
)
from ledger.maintenance.audit.sums import fault_of_sums
from ledger.models.audit_checks import HASH_BYTES
from ledger.queries.scope import uuid_of
from ledger.records.checkpoint import require_checkpoint
from ledger.records.verification import Fault, Verification

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlalchemy import Connection

    from ledger.queries.query import AnyRow
    from ledger.records.checkpoint import Checkpoint, Head

_BEFORE_ALL: Final = -(2**63)
_ROUTINES: Final = (
    *execution_chain.ROUTINES,
    *append_only.ROUTINES,
    *running_sums.routines(EXECUTION_RUNNING_SUMS),
    SCOPED_USERS,
    SCOPED_PROJECTS,
    SEES_ALL,
)
_GUARDED: Final = frozenset(
    (
        LEDGER,
        HEADS,
        ERASURES,
        *EXECUTION_SUM_TABLES,
        *(routine.name for routine in _ROUTINES),
        CHAINED,
        "my_scopes",
        "my_projects",
        "schema ledger",
        "session_replication_role",
    )
)
"""Objects that keep runs as they are, or show them."""


def verify(
    connection: Connection,
    project_id: UUID | str,
    checkpoint: Checkpoint | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> Verification:
    """Whether the chain of a project holds; ``on_progress`` is told how many rows were looked at.

    Rows that are appended meanwhile are left for the next time.
    """
    project_id = uuid_of(project_id, "project_id")
    require_checkpoint(checkpoint)
    with trusted(connection):
        return _verified(connection, project_id, checkpoint, on_progress)


def _verified(
    connection: Connection,
    project_id: UUID,
    checkpoint: Checkpoint | None,
    on_progress: Callable[[int], object] | None,
) -> Verification:
    require_project(connection, project_id)
    kept = _kept(checkpoint, project_id)
    ends = connection.execute(ENDS, {"project_id": project_id}).one()
    reached = Reached(project_id, 0, bytes(HASH_BYTES))
    rows = erased = 0
    fault: Fault | None = None
    after = _BEFORE_ALL
    until = _until(ends)
    while fault is None and after < until:
        share = connection.execute(
            CHAIN,
            {
                "project_id": project_id,
                "sequence": reached.sequence,
                "hash": reached.hash,
                "after": after,
                "until": until,
            },
        ).one()
        if not share.rows:
            break
        if share.faulty_place is not None:
            rows += share.faulty_place - 1
            before, sequence = _first_fault(connection, reached, after, share.faulty_place)
            fault = diagnosed(connection, before, sequence)
            break
        rows, erased = rows + share.rows, erased + share.erased
        after = share.last_sequence
        reached = Reached(project_id, after, bytes(share.last_hash))
        if on_progress is not None:
            on_progress(rows)
    fault = (
        fault
        or _at_the_end(connection, ends, reached)
        or _against(connection, kept, reached)
        or fault_of_erasures(connection, project_id, kept)
        or _of_sums(connection, project_id)
    )
    if fault is None and rows == 0 and kept is None:
        _require_known(connection, project_id)
    return Verification(
        project_id=project_id,
        is_intact=fault is None,
        rows=rows,
        erased=erased,
        first_fault=fault,
        checkpoint_taken_at=None if kept is None or checkpoint is None else checkpoint.taken_at,
    )


def verify_chains(
    connection: Connection,
    checkpoint: Checkpoint | None = None,
    on_progress: Callable[[UUID, int], object] | None = None,
) -> tuple[Verification, ...]:
    """Whether each chain holds, those that the checkpoint knows too, in the order of projects."""
    require_checkpoint(checkpoint)
    known = {head.project_id for head in checkpoint.heads} if checkpoint is not None else set()
    with trusted(connection):
        require_every_run(connection)
        projects = sorted({*connection.execute(PROJECTS).scalars(), *known})
    return tuple(
        verify(
            connection,
            project,
            checkpoint,
            None if on_progress is None else partial(on_progress, project),
        )
        for project in projects
    )


def guards(connection: Connection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the database lacks of what keeps runs from being changed, and what cannot be told."""
    found = [each for each in differences(connection) if each.object in _GUARDED]
    unguarded = (str(each) for each in found if not (each.is_warning or each.is_unseen))
    return tuple(unguarded), tuple(str(each) for each in found if each.is_unseen)


def _kept(checkpoint: Checkpoint | None, project_id: UUID) -> Head | None:
    """The project's head as it was when the checkpoint was taken."""
    if checkpoint is None:
        return None
    return next((head for head in checkpoint.heads if head.project_id == project_id), None)


def _first_fault(
    connection: Connection, reached: Reached, after: int, place: int
) -> tuple[Reached, int]:
    """The last row that holds, and the sequence of the one after it, the n-th of its share."""
    asked = {"project_id": reached.project_id, "after": after, "skipped": max(place - 2, 0)}
    first, *second = connection.execute(NEXT, asked).all()
    if place == 1:
        return reached, first.sequence
    before = Reached(reached.project_id, first.sequence, bytes(first.hash))
    return before, second[0].sequence


def _until(ends: AnyRow) -> int:
    """Up to where rows are looked at: what is beyond the head is no part of the chain."""
    if ends.last_sequence is None:
        return _BEFORE_ALL
    ends_at: list[int] = [ends.last_sequence]
    return min(ends_at if ends.head_sequence is None else [*ends_at, ends.head_sequence])


def _at_the_end(connection: Connection, ends: AnyRow, reached: Reached) -> Fault | None:
    """Where the chain ends otherwise than its head says."""
    if ends.head_sequence is None and ends.last_sequence is None:
        return None
    if ends.head_sequence is None:
        detail = "the chain has no head; somebody removed it"
        return Fault(kind="changed", sequence=None, run_id=None, detail=detail)
    if reached.sequence < ends.head_sequence:
        detail = f"rows {reached.sequence + 1} to {ends.head_sequence} are gone"
        return Fault(kind="truncated", sequence=reached.sequence + 1, run_id=None, detail=detail)
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


def _against(connection: Connection, kept: Head | None, reached: Reached) -> Fault | None:
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


def _of_sums(connection: Connection, project_id: UUID) -> Fault | None:
    """Where sums do not agree with the rows, for a role that sees any of them."""
    return fault_of_sums(connection, project_id) if sees_every_run(connection) else None


def _require_known(connection: Connection, project_id: UUID) -> None:
    """Raise UnknownReference for a project that is none, of which nothing could be verified."""
    if sees_every_run(connection) and not connection.scalar(IS_KNOWN, {"project_id": project_id}):
        raise UnknownReference(f"project_id {project_id}: the ledger does not know it")
