"""Who may do what: privileges and scopes of database roles, each kind the least it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlalchemy import column, delete, func, select, table
from sqlalchemy.dialects.postgresql import insert

from ledger.ddl import row_policies
from ledger.ddl.declared import DECLARED, EXECUTION_RUNNING_SUMS, USAGE_SUMS
from ledger.ddl.latency_functions import aggregates, latency_routines
from ledger.ddl.objects import RowPolicy
from ledger.ddl.rendering import Rendering
from ledger.ddl.running_sums import table_names
from ledger.ddl.search_path import trusted
from ledger.ddl.storage import recorded
from ledger.errors import InvalidArgument, SchemaNotReady
from ledger.models.access import RoleScope
from ledger.settings import Percentiles, Storage

if TYPE_CHECKING:
    from sqlalchemy import Connection

KINDS: Final = ("reader", "writer", "service", "auditor")

_VIEWS = (
    "SELECT ON ledger.visible_requests, ledger.visible_metrics_1m,"
    " ledger.visible_metrics_1h, ledger.visible_usage"
)
_BOOKS = "SELECT ON ledger.installation, ledger.rollup_progress, ledger.alembic_version"
_TENANCY = "ledger.users, ledger.providers, ledger.projects"
_PROJECTS = "SELECT ON ledger.my_projects"
_CATALOGUES = f"SELECT ON {_TENANCY}, ledger.tiers, ledger.model_prices"
_KEEPING_CATALOGUES = (
    f"INSERT, UPDATE ON {_TENANCY}",
    "INSERT ON ledger.tiers, ledger.model_prices",
)
_SUMS = (name for sums in USAGE_SUMS for name in table_names(sums))
_USAGE = "SELECT ON ledger.token_usage_ledger, " + ", ".join(f"ledger.{name}" for name in _SUMS)
_CHAINS = "SELECT ON ledger.execution_heads, ledger.execution_erasures"
_RUNS = "SELECT ON ledger.execution_ledger, " + ", ".join(
    f"ledger.{name}" for name in table_names(EXECUTION_RUNNING_SUMS)
)
_HASHING = ("execution_encoding", "payload_digests", "uuid_time")
_WITH_POLICIES: Final = tuple(target for target in DECLARED if isinstance(target, RowPolicy))
_TABLES: Final = {
    Storage.TIMESCALE: (
        "SELECT ON ledger.llm_requests, ledger.llm_metrics_1m, ledger.llm_metrics_1h"
    ),
    Storage.POSTGRES: (
        "SELECT ON ledger.llm_requests, ledger.llm_metrics_1m, ledger.llm_metrics_1h,"
        " ledger.llm_metrics_1m_materialized, ledger.llm_metrics_1h_materialized,"
        " ledger.llm_requests_touched"
    ),
}


def _privileges(
    kind: str, storage: Storage, percentiles: Percentiles, *, is_of_projects: bool
) -> list[str]:
    """What a role of the kind is granted, as the middle of GRANT ... TO.

    Functions by name, also those that PUBLIC may execute unless it was told otherwise: a
    view's functions, and a CHECK's, are executed as the role that reads or writes.
    """
    rendering = Rendering(percentiles=percentiles)  # wherever the extension is: just names
    routines = (routine.name for routine in latency_routines(rendering))
    latency = [*routines, *aggregates(rendering)]
    scoping = ["SELECT ON ledger.my_scopes", _execute("scoped_users", "sees_all")]
    # Row level security shows each role its own runs, and sums to who sees all that they sum.
    running = [*scoping, _BOOKS, _RUNS, _execute("raw_from")]
    verifying = [*running, _PROJECTS, _CHAINS, _execute("scoped_projects", *_HASHING)]
    viewing = [*running, _VIEWS, _execute(*latency)]
    auditing = [*verifying, _TABLES[storage], _CATALOGUES, _USAGE, _execute(*latency)]
    days = ["ensure_days"] if storage is Storage.POSTGRES else []
    writing = [
        "INSERT ON ledger.llm_requests, ledger.token_usage_ledger",
        _BOOKS,
        _CATALOGUES,
        _execute("raw_from", "requests_by_key", "usage_by_key", "uuid_time", *days),
        _execute("append_executions", "executions_by_run"),
    ]
    serving = [*_KEEPING_CATALOGUES, _execute("erase_execution")]
    return {
        "reader": viewing,
        "writer": writing,
        "service": [*viewing, *auditing, *writing, *serving],
        "auditor": verifying if is_of_projects else [*viewing, *auditing],
    }[kind]


def _execute(*functions: str) -> str:
    """Without arguments: no name is overloaded within an installation."""
    return f"EXECUTE ON FUNCTION {', '.join(f'ledger.{name}' for name in functions)}"


def grant(
    connection: Connection,
    role: str,
    kind: str,
    users: Sequence[UUID] = (),
    *,
    projects: Sequence[UUID] = (),
) -> None:
    """Let the role see, or do, what its kind may; in the caller's transaction.

    A reader sees the rows of its ``users``, through the views, and their runs; a writer inserts
    and sees nothing; a service, the application, does both and sees all; an auditor sees all,
    or, with ``projects``, the runs of those, and nothing else of the ledger.
    Raises InvalidArgument for a role that does not exist, for a reader without users or another
    kind with some, and for another kind than an auditor with projects.
    """
    if kind not in KINDS:
        raise InvalidArgument(f"{kind!r} is not a kind of role; use one of {', '.join(KINDS)}")
    if (kind == "reader") != bool(users):
        raise InvalidArgument(
            "a reader sees the rows of its users: name at least one"
            if kind == "reader"
            else f"a {kind} is not bound to users; name none"
        )
    if projects and kind != "auditor":
        raise InvalidArgument(f"a {kind} is not bound to projects; name none")
    with trusted(connection):
        if (quoted := _quoted(connection, role)) is None:
            raise InvalidArgument(
                f"there is no database role {role!r}; make it with CREATE ROLE first"
            )
        if (found := recorded(connection)) is None:
            raise SchemaNotReady
        _wait_for_others(connection)
        _show_rows(connection, role, quoted, kind, is_of_projects=bool(projects))
        privileges = _privileges(kind, *found, is_of_projects=bool(projects))
        for privilege in ["USAGE ON SCHEMA ledger", *privileges]:
            _execute_ddl(connection, f"GRANT {privilege} TO {quoted}")
        rows = [
            {"role": role, "kind": kind, "user_id": user, "project_id": project}
            for user in users or (None,)
            for project in projects or (None,)
        ]
        connection.execute(insert(RoleScope).on_conflict_do_nothing(), rows)


def renew(connection: Connection) -> None:
    """Grant every role that has a scope what its kind has in this version; after an upgrade."""
    granted: dict[tuple[str, str, bool], tuple[list[UUID], list[UUID]]] = {}
    for role, kind, user, project in scopes(connection):
        users, projects = granted.setdefault((role, kind, project is not None), ([], []))
        users.extend(filter(None, [user]))
        projects.extend(filter(None, [project]))
    with trusted(connection):
        quoted = {role: _quoted(connection, role) for role, _, _ in granted}
        _wait_for_others(connection)
        for role, kind, is_of_projects in granted:
            if (name := quoted[role]) is not None:
                _show_rows(connection, role, name, kind, is_of_projects=is_of_projects)
    for (role, kind, _), (users, projects) in granted.items():
        if quoted[role] is not None:
            grant(connection, role, kind, users, projects=projects)


def _show_rows(
    connection: Connection, role: str, quoted: str, kind: str, *, is_of_projects: bool
) -> None:
    """Make the role's policies, before anything is granted in the transaction.

    A policy locks its table. A vacuum that has the table waits for the rows of pg_class that a
    GRANT has changed, and the two would deadlock.
    """
    for target in _WITH_POLICIES:
        if not is_of_projects or row_policies.knows_projects(target):
            row_policies.grant(connection, target, role, quoted, kind)


def revoke(connection: Connection, role: str) -> None:
    """Take everything in the ledger away from the role; it sees nothing from the commit on.

    Also of a role that was dropped, as another one of that name would inherit its scopes.
    Raises InvalidArgument where there is neither a role nor a scope of that name.
    """
    with trusted(connection):
        if recorded(connection) is None:
            raise SchemaNotReady
        _wait_for_others(connection)
        forgotten = connection.execute(delete(RoleScope).where(RoleScope.role == role)).rowcount
        if (quoted := _quoted(connection, role)) is None:
            if not forgotten:
                raise InvalidArgument(
                    f"there is no database role {role!r}, and nothing granted to it"
                )
            return
        row_policies.revoke(connection, quoted)
        for kind in ("TABLES", "ROUTINES"):
            _execute_ddl(connection, f"REVOKE ALL ON ALL {kind} IN SCHEMA ledger FROM {quoted}")
        _execute_ddl(connection, f"REVOKE ALL ON SCHEMA ledger FROM {quoted}")


def scopes(connection: Connection) -> list[tuple[str, str, UUID | None, UUID | None]]:
    """Every (role, kind, user, project) that was granted."""
    columns = (RoleScope.role, RoleScope.kind, RoleScope.user_id, RoleScope.project_id)
    return [
        (role, kind, user, project)
        for role, kind, user, project in connection.execute(select(*columns).order_by(*columns))
    ]


def _quoted(connection: Connection, role: str) -> str | None:
    """The role's name as SQL has it, None where there is no such role.

    No revision and no grant creates a cluster's roles.
    """
    statement = select(func.quote_ident(column("rolname"))).select_from(table("pg_roles"))
    quoted: str | None = connection.scalar(statement.where(column("rolname") == role))
    return quoted


def _wait_for_others(connection: Connection) -> None:
    """Two grants on one table at once are «tuple concurrently updated»."""
    _execute_ddl(connection, "LOCK TABLE ledger.role_scopes IN SHARE ROW EXCLUSIVE MODE")


def _execute_ddl(connection: Connection, statement: str) -> None:
    """As it is: SQLAlchemy's `text` would read a colon in a role's name as a bind."""
    connection.exec_driver_sql(statement.replace("%", "%%"))
