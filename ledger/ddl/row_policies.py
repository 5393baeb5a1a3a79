"""Row level security: what a role sees of a table itself, beside the views that narrow.

Readers share one policy. A role whose kind sees all has a policy of its own, made by the
grant: one that is true costs nothing, where an OR over both kinds loses the index (156 ms
where this takes 0.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from ledger.ddl.facts import Compared, Fact, Holds
from ledger.ddl.scopes import NARROWED_TO
from ledger.ddl.steps import AS_IT_IS, Step, literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from ledger.ddl.objects import RowPolicy

_GRANTED = text(
    "SELECT DISTINCT role, quote_ident(role) AS quoted, kind FROM ledger.role_scopes"
    " JOIN pg_roles ON rolname = role WHERE project_id IS NULL OR :knows_projects"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What everybody sees of a table, by a policy; and who sees, or writes, more of it."""

    policy: str
    using: str
    by_kind: Mapping[str, str] = field(default_factory=dict)
    """What CREATE POLICY says of a role that was granted this kind; {} is the role."""


_OF_USERS = "user_id = ANY ((SELECT ledger.scoped_users())::uuid[])"
_OF_PROJECTS = "project_id = ANY ((SELECT ledger.scoped_projects())::uuid[])"
_OF_ALL = "(SELECT ledger.sees_all())"
_NARROWED = f"user_id = coalesce((SELECT {NARROWED_TO}), user_id)"

RULES: Final[Mapping[str, Rule]] = {
    "users": Rule(
        policy="of_users",
        using=_OF_USERS,
        by_kind={
            "service": "FOR ALL TO {} USING (true) WITH CHECK (true)",
            "auditor": "FOR SELECT TO {} USING (true)",
            "writer": "FOR INSERT TO {} WITH CHECK (true)",
        },
    ),
    # Also a role that sees all is narrowed by `ledger.user_id`, and an auditor to projects.
    "users and projects": Rule(
        policy="of_users",
        using=_OF_USERS,
        by_kind={
            "service": f"FOR SELECT TO {{}} USING ({_OF_ALL})",
            "auditor": f"FOR SELECT TO {{}} USING ({_OF_ALL} OR ({_OF_PROJECTS} AND {_NARROWED}))",
        },
    ),
    # Of rows that are of a project, and of no user: none for who is narrowed to one.
    "projects": Rule(
        policy="of_projects",
        using=f"{_OF_ALL} OR ({_OF_PROJECTS} AND (SELECT {NARROWED_TO}) IS NULL)",
    ),
}


def create(target: RowPolicy) -> list[Step]:
    """Show each role what its scopes say, and the owner everything."""
    table, rule = f"ledger.{target.name}", RULES[target.rule]
    return [
        Step(sql=f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"),
        Step(sql=f"DROP POLICY IF EXISTS {rule.policy} ON {table}"),
        Step(sql=_of_everybody(table, rule)),
    ]


def _of_everybody(table: str, rule: Rule) -> str:
    return f"CREATE POLICY {rule.policy} ON {table} FOR SELECT USING ({rule.using})"


def _of_role(table: str, role: str, quoted: str, kind: str, policy: str) -> str:
    return f"CREATE POLICY {_name(role, kind)} ON {table} {policy.format(quoted)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _PoliciesAre(Fact):
    """Everybody has the policy of the scopes, roles have those of their grants, and no other."""

    table: str
    rule: Rule

    @property
    def about(self) -> str:
        return self.table

    def making(self, connection: Connection, /) -> Iterator[tuple[str, str]]:
        """A table beside it that has the policies that this one should have."""
        beside = f"pg_temp.{self._beside}"
        yield self._beside, f"CREATE TABLE {beside} (LIKE ledger.{self.table})"
        yield self._beside, _of_everybody(beside, self.rule)
        for role, quoted, kind in self._granted(connection):
            if (policy := self.rule.by_kind.get(kind)) is not None:
                yield self._beside, _of_role(beside, role, quoted, kind, policy)

    def problems(self, compared: Compared) -> Iterator[str]:
        wanted = compared.wanted.policies.get(self._beside, {})
        found = compared.there.policies.get(self.table, {})
        if wanted == found:
            return
        granted = self._granted(compared.connection)
        grants = {_name(role, kind): f"{role} --as {kind}" for role, _, kind in granted}
        for name in sorted(wanted.keys() | found.keys()):
            if name not in wanted:
                yield f"{self.table} has a policy that no grant made: {name}"
            elif name not in found:
                remedy = f": ledger db grant {grants[name]}" if name in grants else ""
                yield f"policy {name} on {self.table} is missing{remedy}"
            elif wanted[name] != found[name]:
                yield f"policy {name} on {self.table} was changed"

    def _granted(self, connection: Connection) -> list[tuple[str, str, str]]:
        asked = {"knows_projects": _knows_projects(self.rule)}
        granted = connection.execute(_GRANTED, asked)
        return [(row.role, row.quoted, row.kind) for row in granted]

    @property
    def _beside(self) -> str:
        return f"shown_{self.table}"


def drop(target: RowPolicy) -> list[Step]:
    """Show the rows to whoever may read the table. Policies of roles go with the table."""
    table, rule = f"ledger.{target.name}", RULES[target.rule]
    return [
        Step(sql=f"DROP POLICY IF EXISTS {rule.policy} ON {table}"),
        Step(sql=f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"),
    ]


def facts(target: RowPolicy) -> list[Fact]:
    """It is enabled, and shows each role what its scopes say."""
    table, rule = f"to_regclass({literal(f'ledger.{target.name}')})", RULES[target.rule]
    return [
        Holds(
            query=f"SELECT relrowsecurity FROM pg_class WHERE oid = {table}",
            otherwise=f"row level security of {target.name} is off",
        ),
        Holds(
            query=f"SELECT NOT relforcerowsecurity FROM pg_class WHERE oid = {table}",
            otherwise=f"row level security of {target.name} is forced on its owner, who appends",
        ),
        _PoliciesAre(table=target.name, rule=rule),
    ]


def knows_projects(target: RowPolicy) -> bool:
    """Whether what is shown may depend on projects."""
    return _knows_projects(RULES[target.rule])


def _knows_projects(rule: Rule) -> bool:
    return _OF_PROJECTS in "".join([rule.using, *rule.by_kind.values()])


def grant(connection: Connection, target: RowPolicy, role: str, quoted: str, kind: str) -> None:
    """Make the policy of a role whose kind sees or writes all; others share the table's.

    Where it is not there: to make one stops the table's readers and writers for a moment.
    """
    if (policy := RULES[target.rule].by_kind.get(kind)) is None:
        return
    name = _name(role, kind)
    is_there = text(
        "SELECT EXISTS (SELECT FROM pg_policy WHERE polrelid = to_regclass(:table)"
        " AND polname = :name)"
    )
    if not connection.scalar(is_there, {"table": f"ledger.{target.name}", "name": name}):
        connection.exec_driver_sql(
            _of_role(f"ledger.{target.name}", role, quoted, kind, policy),
            execution_options=AS_IT_IS,
        )


def _name(role: str, kind: str) -> str:
    """That of a role's policy.

    It stays the same in a dump that is restored elsewhere; a role's may be as long as any name.
    """
    return f"{kind}_{sha256(role.encode()).hexdigest()[:16]}"


def revoke(connection: Connection, quoted: str) -> None:
    """Drop the role's policies."""
    policies = text(
        "SELECT polname, polrelid::regclass::text FROM pg_policy p JOIN pg_class c"
        " ON c.oid = polrelid WHERE relnamespace = to_regnamespace('ledger')"
        " AND polroles = ARRAY[to_regrole(:role)::oid]"
    )
    for name, table in connection.execute(policies, {"role": quoted}).all():
        connection.exec_driver_sql(f"DROP POLICY {name} ON {table}", execution_options=AS_IT_IS)
