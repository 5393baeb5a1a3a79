"""Whether a role sees every run; one that is hidden from it would be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Uuid, bindparam, text

from ledger.ddl.scopes import NARROWED_TO
from ledger.errors import PermissionMissing

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection

# Whom nothing was granted may not even ask what was.
_MAY_ASK: Final = "has_table_privilege('ledger.{}', 'SELECT')"
_ALL: Final = (
    "CASE WHEN NOT row_security_active('ledger.execution_ledger') THEN true"
    f" WHEN {_MAY_ASK.format('my_scopes')} THEN ledger.sees_all() ELSE false END"
)
_SEES_ALL: Final = text(f"SELECT {_ALL}")
_SEES_PROJECT: Final = text(
    f"SELECT {_ALL} OR CASE WHEN {_MAY_ASK.format('my_projects')}"
    f" THEN :project_id = ANY (ledger.scoped_projects()) AND {NARROWED_TO} IS NULL ELSE false END"
).bindparams(bindparam("project_id", type_=Uuid()))
_REMEDY: Final = (
    "as the ledger's owner, or as a role granted service, or auditor of all projects, without"
    " ledger.user_id set"
)


def sees_every_run(connection: Connection) -> bool:
    """Whether row level security hides no run from the role."""
    return bool(connection.scalar(_SEES_ALL))


def require_every_run(connection: Connection) -> None:
    """Raise PermissionMissing where some run is hidden."""
    if not sees_every_run(connection):
        raise PermissionMissing(f"this role does not see every run; do this {_REMEDY}")


def require_project(connection: Connection, project_id: UUID) -> None:
    """Raise PermissionMissing where some run of the project is hidden."""
    if not connection.scalar(_SEES_PROJECT, {"project_id": project_id}):
        raise PermissionMissing(
            f"this role does not see every run of project {project_id}; verify as its auditor, or"
            f" {_REMEDY}"
        )
