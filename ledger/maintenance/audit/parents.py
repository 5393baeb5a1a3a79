"""Verifying that the project and the users of runs are still there, whom foreign keys protect."""

# ruff: noqa: S608 - the names are ours, and values are bound

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Uuid, bindparam, text

from ledger.ddl.execution_appending import LEDGER
from ledger.records.verification import Fault

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection

_PROJECT: Final = bindparam("project_id", type_=Uuid())
_IS_KNOWN: Final = text(
    "SELECT EXISTS (SELECT FROM ONLY ledger.projects WHERE id = :project_id)"
).bindparams(_PROJECT)
_LOST: Final = text(
    f"""
SELECT user_id FROM ledger.{LEDGER} stored
WHERE project_id = :project_id AND NOT EXISTS (
  SELECT FROM ONLY ledger.users WHERE id = stored.user_id) LIMIT 1"""
).bindparams(_PROJECT)
_FIRST: Final = text(
    f"""
SELECT sequence, run_id FROM ledger.{LEDGER}
WHERE project_id = :project_id AND user_id = :user_id ORDER BY sequence LIMIT 1"""
).bindparams(_PROJECT, bindparam("user_id", type_=Uuid()))


def is_known(connection: Connection, project_id: UUID) -> bool:
    """Whether the ledger knows the project."""
    return bool(connection.scalar(_IS_KNOWN, {"project_id": project_id}))


def fault_of_parents(connection: Connection, project_id: UUID) -> Fault | None:
    """Where the project of its runs, or the user of one, was removed round the foreign keys."""
    if not is_known(connection, project_id):
        detail = "the project is gone from ledger.projects, round its foreign keys"
        return Fault(kind="missing", sequence=None, run_id=None, detail=detail)
    lost = connection.scalar(_LOST, {"project_id": project_id})
    if lost is None:
        return None
    row = connection.execute(_FIRST, {"project_id": project_id, "user_id": lost}).one()
    detail = f"its user {lost} is gone from ledger.users, round the foreign key"
    return Fault(kind="missing", sequence=row.sequence, run_id=row.run_id, detail=detail)
