"""Whether the database has what keeps runs from being changed, as this version declares it."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from ledger.ddl import append_only, execution_chain, kept_rows, migrate, running_sums
from ledger.ddl.compare import differences
from ledger.ddl.declared import EXECUTION_RUNNING_SUMS
from ledger.ddl.declared_routines import UUID_TIME
from ledger.ddl.execution_appending import ERASURES, HEADS, LEDGER
from ledger.ddl.execution_hashing import CHAINED
from ledger.ddl.scopes import SCOPED_PROJECTS, SCOPED_USERS, SEES_ALL
from ledger.ddl.search_path import trusted
from ledger.models.access import RoleScope
from ledger.models.tenancy import Project, User

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ledger.errors import SchemaNotReady

_ROUTINES: Final = (
    *execution_chain.ROUTINES,
    *append_only.ROUTINES,
    kept_rows.KEEP,
    UUID_TIME,
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
        *running_sums.table_names(EXECUTION_RUNNING_SUMS),
        *(routine.name for routine in _ROUTINES),
        CHAINED,
        Project.__tablename__,
        User.__tablename__,
        RoleScope.__tablename__,
        "my_scopes",
        "my_projects",
        "casts",
        "schema ledger",
        "session_replication_role",
    )
)
"""Objects that keep runs as they are, or show them."""


_HOMELESS: Final = " UNION ALL ".join(
    f"SELECT '{table}' AS name, count(*) AS rows FROM ledger.{table} WHERE project_id IS NULL"
    for table in (LEDGER, HEADS, ERASURES)
)


def guards(
    connection: Connection, unreadable: SchemaNotReady | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the database lacks of what keeps runs from being changed, and what cannot be told.

    Raises what made the chains ``unreadable``, where it is not that somebody took something
    away from a ledger of this version.
    """
    if unreadable is not None and migrate.revision_of(connection) != migrate.head():
        raise unreadable
    found = [each for each in differences(connection) if each.object in _GUARDED]
    unguarded = [str(each) for each in found if not (each.is_warning or each.is_unseen)]
    if unreadable is None:
        with trusted(connection):
            homeless = connection.execute(text(_HOMELESS)).all()
        # Which are in no chain, and so in none that is verified.
        unguarded += [f"{row.name}: {row.rows} rows of no project" for row in homeless if row.rows]
    elif unguarded:
        unguarded.insert(0, f"{LEDGER}: no chain can be verified, as what it is read from is gone")
    else:
        raise unreadable
    return tuple(unguarded), tuple(str(each) for each in found if each.is_unseen)
