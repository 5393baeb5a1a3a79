"""Verifying chains: from the first row to the head, a share of them at a time."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ledger.ddl.search_path import trusted
from ledger.errors import UnknownReference
from ledger.maintenance.audit.diagnosis import Reached, diagnosed
from ledger.maintenance.audit.ends import (
    end_of_chain,
    fault_against,
    fault_at_the_beginning,
    fault_at_the_end,
)
from ledger.maintenance.audit.erasures import fault_of_erasures
from ledger.maintenance.audit.parents import fault_of_parents, is_known
from ledger.maintenance.audit.sight import require_every_run, require_project, sees_every_run
from ledger.maintenance.audit.statements import CHAIN, ENDS, NEXT, PROJECTS
from ledger.maintenance.audit.sums import fault_of_sums
from ledger.models.audit_checks import HASH_BYTES
from ledger.queries.scope import uuid_of
from ledger.records.checkpoint import Head
from ledger.records.signing import require_unaltered
from ledger.records.verification import Verification

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlalchemy import Connection

    from ledger.records.checkpoint import Checkpoint


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
    kept = _kept(checkpoint).get(project_id)
    with trusted(connection):
        require_project(connection, project_id)
        return _verified(connection, project_id, kept, on_progress)


def _verified(
    connection: Connection,
    project_id: UUID,
    kept: _Kept | None,
    on_progress: Callable[[int], object] | None,
) -> Verification:
    head = None if kept is None else kept.head
    ends = connection.execute(ENDS, {"project_id": project_id}).one()
    reached = Reached(project_id, 0, bytes(HASH_BYTES))
    rows = erased = 0
    fault = fault_at_the_beginning(connection, ends, reached)
    after = 0
    until = end_of_chain(ends)
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
        or fault_at_the_end(connection, ends, reached)
        or fault_against(connection, head, reached)
        or fault_of_erasures(connection, project_id, head)
        or fault_of_sums(connection, project_id)
    )
    # A project's auditor may read neither projects nor users.
    if fault is None and sees_every_run(connection):
        if rows == 0 and kept is None:
            _require_known(connection, project_id)
        fault = fault_of_parents(connection, project_id)
    return Verification(
        project_id=project_id,
        is_intact=fault is None,
        rows=rows,
        erased=erased,
        first_fault=fault,
        checkpoint_taken_at=None if kept is None else kept.taken_at,
    )


def verify_chains(
    connection: Connection,
    checkpoint: Checkpoint | None = None,
    on_progress: Callable[[UUID, int], object] | None = None,
) -> tuple[Verification, ...]:
    """Whether each chain holds, those that the checkpoint knows too, in the order of projects."""
    kept = _kept(checkpoint)
    with trusted(connection):
        require_every_run(connection)
        projects = sorted({*connection.execute(PROJECTS).scalars(), *kept})
        return tuple(
            _verified(
                connection,
                project,
                kept.get(project),
                None if on_progress is None else partial(on_progress, project),
            )
            for project in projects
        )


class _Kept(NamedTuple):
    """A project's head as it was when a checkpoint was taken."""

    head: Head
    taken_at: datetime


def _kept(checkpoint: Checkpoint | None) -> dict[UUID, _Kept]:
    if checkpoint is None:
        return {}
    require_unaltered(checkpoint)
    return {head.project_id: _Kept(head, checkpoint.taken_at) for head in checkpoint.heads}


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


def _require_known(connection: Connection, project_id: UUID) -> None:
    """Raise UnknownReference for a project that is none, of which nothing could be verified."""
    if not is_known(connection, project_id):
        raise UnknownReference(f"project_id {project_id}: the ledger does not know it")
