"""What works in a database and should not be: warnings of `ledger db check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from ledger.ddl.declared import RUNNING_SUMS
from ledger.ddl.difference import Difference
from ledger.models.base import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

_WITHOUT_ROLE = text(
    "SELECT DISTINCT role FROM ledger.role_scopes"
    " WHERE role NOT IN (SELECT rolname FROM pg_roles) ORDER BY role"
)


MOST_UNFOLDED = 50_000
"""Deltas with which a read of the billing ledger's sums takes 15 ms longer."""

_OPEN_TO_ALL = text(
    "SELECT DISTINCT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace"
    " WHERE extname LIKE 'timescaledb%' AND has_schema_privilege('public', n.oid, 'CREATE')"
)


_EVENT_TRIGGERS = text(
    "SELECT evtname FROM pg_event_trigger t WHERE evtenabled <> 'D'"
    " AND evtevent LIKE 'ddl_command_%' AND NOT EXISTS ("
    "SELECT FROM pg_depend WHERE classid = 'pg_event_trigger'::regclass AND objid = t.oid"
    " AND deptype = 'e') ORDER BY 1"
)


def warnings(connection: Connection) -> Iterator[Difference]:
    """Who may do more than he should, and what nobody looks after."""
    yield from _owner_connects(connection)
    for schema in connection.execute(_OPEN_TO_ALL).scalars():
        yield Difference(
            object=f"schema {schema}",
            problem="everybody may create in it, and have their code run in the stead of"
            f" TimescaleDB's, as the owner: REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC",
            is_warning=True,
        )
    for name in connection.execute(_EVENT_TRIGGERS).scalars():
        yield Difference(
            object=f"event trigger {name}",
            problem="it runs with each statement that defines something, as comparisons do, and"
            " could have anything look as declared; see that it does no such thing",
            is_warning=True,
        )
    yield from _unfolded(connection)
    readable = text("SELECT has_table_privilege(to_regclass('ledger.role_scopes'), 'SELECT')")
    if not connection.scalar(readable):
        return  # a missing table is reported as such
    for role in connection.execute(_WITHOUT_ROLE).scalars():
        yield Difference(
            object=role,
            problem="this role has scopes and does not exist; whoever is given its name has them:"
            " ledger db revoke ROLE",
            is_warning=True,
        )


def _unfolded(connection: Connection) -> Iterator[Difference]:
    for target in RUNNING_SUMS:
        readable = text("SELECT has_table_privilege(to_regclass(:name), 'SELECT')")
        if not connection.scalar(readable, {"name": f"{SCHEMA}.{target.name}"}):
            continue  # a missing table is reported as such
        many = f"SELECT EXISTS (SELECT FROM ledger.{target.name} OFFSET {MOST_UNFOLDED})"
        if connection.scalar(text(many)):
            yield Difference(
                object=target.name,
                problem=f"more than {MOST_UNFOLDED:,} deltas wait to be folded, which reads add"
                " up; run `ledger maintain --forever` somewhere",
                is_warning=True,
            )


def _owner_connects(connection: Connection) -> Iterator[Difference]:
    role, is_superuser, is_owner = connection.execute(
        text(
            "SELECT current_user, rolsuper, pg_get_userbyid(relowner) = current_user"
            " FROM pg_roles, pg_class WHERE rolname = current_user"
            " AND pg_class.oid = to_regclass('ledger.llm_requests')"
        )
    ).one()
    if is_superuser or is_owner:
        yield Difference(
            object=str(role),
            problem="this role owns the ledger or is a superuser; let the application connect as"
            " a role of its own: ledger db grant ROLE --as service",
            is_warning=True,
        )
