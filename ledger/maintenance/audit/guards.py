"""Whether the database has what keeps runs from being changed, as this version declares it."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from ledger.ddl import append_only, execution_chain, kept_rows, running_sums
from ledger.ddl.compare import differences
from ledger.ddl.declared import EXECUTION_RUNNING_SUMS
from ledger.ddl.declared_routines import UUID_TIME
from ledger.ddl.execution_appending import ERASURES, HEADS, LEDGER
from ledger.ddl.execution_hashing import CHAINED
from ledger.ddl.scopes import SCOPED_PROJECTS, SCOPED_USERS, SEES_ALL
from ledger.ddl.search_path import trusted
from ledger.engine import commits_each_statement
from ledger.errors import InvalidArgument
from ledger.models.access import RoleScope
from ledger.models.tenancy import Project, User

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ledger.ddl.difference import Difference
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
_PARENTS: Final = frozenset((Project.__tablename__, User.__tablename__))
_GUARDED: Final = frozenset(
    (
        LEDGER,
        HEADS,
        ERASURES,
        *running_sums.table_names(EXECUTION_RUNNING_SUMS),
        *(routine.name for routine in _ROUTINES),
        CHAINED,
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


def _is_of_guards(found: Difference) -> bool:
    """Whether it is about them; a host may have columns and indexes of its own on parents."""
    if found.object not in _PARENTS:
        return found.object in _GUARDED
    own = tuple(f"table {found.object}: {part} " for part in ("column", "index"))
    return not (found.problem.startswith(own) and " is not declared: " in found.problem)


def guards(
    connection: Connection, unreadable: SchemaNotReady | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the database lacks of what keeps runs from being changed, and what cannot be told.

    Raises what made the chains ``unreadable``, where nothing was taken away here; InvalidArgument
    in a connection that commits each statement, as comparing takes several.
    """
    if commits_each_statement(connection):
        raise InvalidArgument(
            "the database is compared in a transaction, and this connection commits each"
            " statement; bind the ledger to one in a transaction"
        )
    found = [each for each in differences(connection) if _is_of_guards(each)]
    unguarded = [str(each) for each in found if not (each.is_warning or each.is_unseen)]
    if unreadable is None:
        with trusted(connection):
            homeless = connection.execute(text(_HOMELESS)).all()
        # Which are in no chain, and so in none that is verified.
        unguarded += [f"{row.name}: {row.rows} rows of no project" for row in homeless if row.rows]
    elif unguarded:
        words = str(unreadable).splitlines()[-1]
        unguarded.insert(0, f"{LEDGER}: no chain can be verified: {words}")
    else:
        raise unreadable
    return tuple(unguarded), tuple(str(each) for each in found if each.is_unseen)
