"""Row level security: what a role sees of a table itself, beside the views that narrow.

Readers share one policy. A role whose kind sees all has a policy of its own, made by the
grant: one that is true costs nothing, where an OR over both kinds loses the index (156 ms
where this takes 0.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import text

from ledger.ddl.facts import Fact, Holds
from ledger.ddl.steps import AS_IT_IS, Step, literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from ledger.ddl.objects import RowPolicy

_POLICY = text(
    "SELECT polpermissive, polcmd::text, polroles, pg_get_expr(polqual, polrelid),"
    " pg_get_expr(polwithcheck, polrelid) FROM pg_policy"
    " WHERE polrelid = to_regclass(:table) AND polname = 'of_users'"
)
_OF_USERS = "user_id = ANY ((SELECT ledger.scoped_users())::uuid[])"


def create(target: RowPolicy) -> list[Step]:
    """Show each role its users' rows, and the owner all of them."""
    table = f"ledger.{target.name}"
    return [
        Step(sql=f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"),
        Step(sql=f"DROP POLICY IF EXISTS of_users ON {table}"),
        Step(sql=_of_users(table)),
    ]


def _of_users(table: str) -> str:
    return f"CREATE POLICY of_users ON {table} FOR SELECT USING ({_OF_USERS})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _PolicyIs:
    """Everybody's policy is that of the scopes."""

    table: str

    def problems(self, connection: Connection) -> Iterator[str]:
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE {self.table} (LIKE ledger.{self.table})"
        )
        connection.exec_driver_sql(_of_users(f"pg_temp.{self.table}"))
        wanted, found = (
            connection.execute(_POLICY, {"table": f"{schema}.{self.table}"}).first()
            for schema in ("pg_temp", "ledger")
        )
        if found is None:
            yield f"policy of_users on {self.table} is missing"
        elif found != wanted:
            yield f"policy of_users on {self.table} was changed"


def drop(target: RowPolicy) -> list[Step]:
    """Show the rows to whoever may read the table. Policies of roles go with the table."""
    table = f"ledger.{target.name}"
    return [
        Step(sql=f"DROP POLICY IF EXISTS of_users ON {table}"),
        Step(sql=f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"),
    ]


def facts(target: RowPolicy) -> list[Fact]:
    """It is enabled, and everybody's policy is that of the scopes."""
    table = f"to_regclass({literal(f'ledger.{target.name}')})"
    return [
        Holds(
            query=f"SELECT relrowsecurity FROM pg_class WHERE oid = {table}",
            otherwise=f"row level security of {target.name} is off",
        ),
        _PolicyIs(table=target.name),
        Holds(
            # A grant's are for one role that has a scope; any other lets somebody see or write.
            query="SELECT NOT EXISTS (SELECT FROM pg_policy"
            f" WHERE polrelid = {table} AND polname <> 'of_users' AND NOT EXISTS ("
            "SELECT FROM pg_roles r JOIN ledger.role_scopes s ON s.role = r.rolname"
            " WHERE polroles = ARRAY[r.oid] AND s.kind <> 'reader'))",
            otherwise=f"{target.name} has a policy that no grant made",
        ),
    ]


_BY_KIND = {
    "service": "FOR ALL TO {} USING (true) WITH CHECK (true)",
    "auditor": "FOR SELECT TO {} USING (true)",
    "writer": "FOR INSERT TO {} WITH CHECK (true)",
}


def grant(connection: Connection, table: str, role: str, quoted: str, kind: str) -> None:
    """Make the policy of a role whose kind sees or writes all; others share the table's.

    Where it is not there: to make one stops the table's readers and writers for a moment.
    """
    if kind not in _BY_KIND:
        return
    # The name stays the same in a dump that is restored elsewhere; a role's may be as long as
    # any name.
    name = f"{kind}_{sha256(role.encode()).hexdigest()[:16]}"
    is_there = text(
        "SELECT EXISTS (SELECT FROM pg_policy WHERE polrelid = to_regclass(:table)"
        " AND polname = :name)"
    )
    if not connection.scalar(is_there, {"table": f"ledger.{table}", "name": name}):
        connection.exec_driver_sql(
            f"CREATE POLICY {name} ON ledger.{table} {_BY_KIND[kind].format(quoted)}",
            execution_options=AS_IT_IS,
        )


def revoke(connection: Connection, quoted: str) -> None:
    """Drop the role's policies."""
    policies = text(
        "SELECT polname, polrelid::regclass::text FROM pg_policy p JOIN pg_class c"
        " ON c.oid = polrelid WHERE relnamespace = to_regnamespace('ledger')"
        " AND polroles = ARRAY[to_regrole(:role)::oid]"
    )
    for name, table in connection.execute(policies, {"role": quoted}).all():
        connection.exec_driver_sql(f"DROP POLICY {name} ON {table}", execution_options=AS_IT_IS)
