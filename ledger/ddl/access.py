"""Who may do what: privileges and scopes of database roles, each kind the least it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert

from ledger.ddl.storage import recorded
from ledger.errors import InvalidArgument, SchemaNotReady
from ledger.models.access import RoleScope
from ledger.settings import Storage

if TYPE_CHECKING:
    from sqlalchemy import Connection

KINDS: Final = ("reader", "writer", "service", "auditor")

_VIEWS = (
    "ledger.my_scopes, ledger.visible_requests, ledger.visible_metrics_1m,"
    " ledger.visible_metrics_1h"
)
_BOOKS = "ledger.installation, ledger.rollup_progress, ledger.alembic_version"
_TABLES: Final = {
    Storage.TIMESCALE: "ledger.llm_requests, ledger.llm_metrics_1m, ledger.llm_metrics_1h",
    Storage.POSTGRES: (
        "ledger.llm_requests, ledger.llm_metrics_1m, ledger.llm_metrics_1h,"
        " ledger.llm_metrics_1m_materialized, ledger.llm_metrics_1h_materialized,"
        " ledger.llm_requests_touched"
    ),
}
_READING = "FUNCTION ledger.scoped_users(), FUNCTION ledger.sees_all(), FUNCTION ledger.raw_from()"


def _privileges(kind: str, storage: Storage) -> list[str]:
    """What a role of the kind is granted, as the middle of GRANT ... TO."""
    viewing = [f"SELECT ON {_VIEWS}"]
    writing = [
        "INSERT ON ledger.llm_requests",
        f"SELECT ON {_BOOKS}",
        "EXECUTE ON FUNCTION ledger.raw_from()",
        "EXECUTE ON FUNCTION ledger.requests_by_key(uuid[], timestamptz[], uuid[])",
    ]
    if storage is Storage.POSTGRES:
        writing.append("EXECUTE ON FUNCTION ledger.ensure_days(date[])")
    return {
        "reader": viewing,
        "writer": writing,
        "service": [*viewing, *writing, f"SELECT ON {_TABLES[storage]}"],
        "auditor": [*viewing, f"SELECT ON {_BOOKS}, {_TABLES[storage]}"],
    }[kind]


def grant(connection: Connection, role: str, kind: str, users: Sequence[UUID] = ()) -> None:
    """Let the role see, or do, what its kind may; in the caller's transaction.

    A reader sees the rows of its ``users``, through the views; a writer inserts and sees
    nothing; a service, the application, does both and sees all; an auditor sees all.
    Raises InvalidArgument for a role that does not exist, and for a reader without users or
    another kind with some.
    """
    if kind not in KINDS:
        raise InvalidArgument(f"{kind!r} is not a kind of role; use one of {', '.join(KINDS)}")
    if (kind == "reader") != bool(users):
        raise InvalidArgument(
            "a reader sees the rows of its users: name at least one"
            if kind == "reader"
            else f"a {kind} is not bound to users; name none"
        )
    quoted = _existing(connection, role)
    if (found := recorded(connection)) is None:
        raise SchemaNotReady
    for privilege in ["USAGE ON SCHEMA ledger", *_privileges(kind, found[0])]:
        connection.execute(text(f"GRANT {privilege} TO {quoted}"))
    rows = [{"role": role, "kind": kind, "user_id": user} for user in users or (None,)]
    connection.execute(insert(RoleScope).on_conflict_do_nothing(), rows)


def revoke(connection: Connection, role: str) -> None:
    """Take everything in the ledger away from the role; it sees nothing from the commit on."""
    quoted = _existing(connection, role)
    connection.execute(delete(RoleScope).where(RoleScope.role == role))
    for kind in ("TABLES", "ROUTINES"):
        connection.execute(text(f"REVOKE ALL ON ALL {kind} IN SCHEMA ledger FROM {quoted}"))
    connection.execute(text(f"REVOKE ALL ON SCHEMA ledger FROM {quoted}"))


def scopes(connection: Connection) -> list[tuple[str, str, UUID | None]]:
    """Every (role, kind, user) that was granted."""
    columns = (RoleScope.role, RoleScope.kind, RoleScope.user_id)
    return [
        (role, kind, user)
        for role, kind, user in connection.execute(select(*columns).order_by(*columns))
    ]


def _existing(connection: Connection, role: str) -> str:
    """The role's name, quoted. No revision and no grant creates a cluster's roles."""
    quoted = connection.scalar(
        text("SELECT quote_ident(rolname) FROM pg_roles WHERE rolname = :role"), {"role": role}
    )
    if quoted is None:
        raise InvalidArgument(f"there is no database role {role!r}; make it with CREATE ROLE first")
    return str(quoted)
