"""Runs of agents in an execution ledger, and what is stored of them, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import make_url

from ledger import Ledger
from ledger.engine import engine
from tests.ledgers import LONG_AGO, ledger_at
from tests.roles import Role, Roles
from tests.writers import Kind, superuser

PROJECT, OTHER_PROJECT = (UUID(int=number << 64 | 1) for number in (1, 2))
ALICE, BOB, STRANGER = (UUID(int=number << 64 | 2) for number in (1, 2, 3))
"""Of whom the ledger knows two."""

TABLES = ("execution_ledger", "execution_heads", "execution_erasures")
APPENDED = (
    "id, run_id, parent_run_id, project_id, user_id, agent_id, intent, input, output, cost_json,"
    " execution_trace_json, status, error_message, created_at, recorded_at, sequence,"
    " hash_version, previous_hash, hash, salt, payload_digests"
)
"""The columns of a run that are not worked out of others."""

WITHIN = {
    "execution_ledger": ("run_id", APPENDED),
    "execution_heads": ("project_id", "project_id, sequence, hash, erasures, erasures_hash"),
    "execution_erasures": ("project_id, sequence", "project_id, sequence, reason"),
}
"""Each table's key, and what is inserted into it."""

CHANGES = {
    "update": "UPDATE {0} SET sequence = sequence + 1 WHERE sequence = 1",
    "update to the same": "UPDATE {0} SET sequence = sequence",
    "update of nothing": "UPDATE {0} SET sequence = 9 WHERE false",
    "update from": "UPDATE {0} SET sequence = 9 FROM (VALUES (1)) AS v (n) WHERE sequence = n",
    "update from nothing": "UPDATE {0} SET sequence = n FROM (VALUES (0)) AS v (n) WHERE n > 0",
    "update in a CTE": "WITH done AS (UPDATE {0} SET sequence = 9) SELECT 1",
    "delete": "DELETE FROM {0} WHERE sequence = 1",
    "delete of nothing": "DELETE FROM {0} WHERE false",
    "delete using": "DELETE FROM {0} USING (VALUES (1)) AS v (n) WHERE sequence = n",
    "delete in a CTE": "WITH gone AS (DELETE FROM {0} RETURNING 1) SELECT count(*) FROM gone",
    "upsert": "INSERT INTO {0} ({2}) SELECT {2} FROM {0} ON CONFLICT ({1}) DO UPDATE"
    " SET sequence = 9",
    "upsert of nothing": "INSERT INTO {0} ({2}) SELECT {2} FROM {0} WHERE false"
    " ON CONFLICT ({1}) DO UPDATE SET sequence = 9",
    "upsert that updates nothing": "INSERT INTO {0} AS t ({2}) SELECT {2} FROM {0}"
    " ON CONFLICT ({1}) DO UPDATE SET sequence = 9 WHERE t.sequence = 0",
}
MERGES = {
    f"merge that {name} {found}": f"MERGE INTO {{0}} t USING (VALUES ({number})) AS v (n)"
    f" ON t.sequence = n WHEN MATCHED THEN {action}"
    for name, action in (("updates", "UPDATE SET sequence = 9"), ("deletes", "DELETE"))
    for found, number in (("a row", 1), ("nothing", 0))
}
TRUNCATES = {
    "truncate": "TRUNCATE ledger.execution_ledger, {0}, ledger.execution_erasures",
    "truncate cascade": "TRUNCATE {0} CASCADE",
}

ERASED = {
    "salt": "NULL",
    "intent": "'[erased]'",
    "input": "'{}'",
    "output": "'{}'",
    "cost_json": """'{"total": 1.5, "breakdown": {}}'""",
    "execution_trace_json": """'{"duration_ms": 900, "steps": []}'""",
    "error_message": "'[erased]'",
}
"""What is left of the payloads of `execution()`, as SQL."""
BESIDE = {
    "id": "gen_random_uuid()",
    "run_id": "'forged'",
    "parent_run_id": "NULL",
    "project_id": "gen_random_uuid()",
    "user_id": f"'{BOB}'",
    "agent_id": "'forged'",
    "status": "'failed'",
    "created_at": "created_at + INTERVAL '1 second'",
    "recorded_at": "recorded_at + INTERVAL '1 second'",
    "sequence": "sequence + 9",
    "hash_version": "2",
    "previous_hash": "sha256(previous_hash)",
    "hash": "sha256(hash)",
    "payload_digests": "payload_digests || payload_digests",
}
"""What else could be changed with an erasure."""
FORGED_ERASURE = """INSERT INTO ledger.execution_erasures
  (project_id, sequence, reason, erased_at, erased_by, number, hash)
  SELECT project_id, sequence, 'forged', now(), 'nobody', 9, sha256('')
  FROM ledger.execution_ledger WHERE """
"""The record of an erasure as a superuser can write it, of the rows of which this holds."""
OF_ERASURE = {
    "reason": "'another'",
    "erased_at": "erased_at + interval '1 microsecond'",
    "erased_by": "'another'",
    "number": "number + 1",
    "hash": "sha256(hash)",
}
"""What else the record of an erasure could say."""
OTHERWISE = {
    "salt": "sha256(salt)",
    "intent": "'[erased] '",
    "input": """'{"a": 1}'""",
    "output": "NULL",
    "cost_json": """'{"total": 1.5, "breakdown": {}, "a": 1}'""",
    "execution_trace_json": """'{"duration_ms": 900, "steps": [1]}'""",
    "error_message": "NULL",
}
"""What else could be left of each payload."""
VARIATIONS = {
    **{f"{name} changed": ERASED | {name: value} for name, value in BESIDE.items()},
    **{f"{name} otherwise": ERASED | {name: value} for name, value in OTHERWISE.items()},
    **{f"{name} kept": ERASED | {name: name} for name in ERASED},
    **{f"only {name}": {name: ERASED[name]} for name in ERASED},
    "total changed": ERASED | {"cost_json": """'{"total": 1, "breakdown": {}}'"""},
    "total lost": ERASED | {"cost_json": """'{"breakdown": {}}'"""},
    "duration changed": ERASED | {"execution_trace_json": """'{"duration_ms": 1, "steps": []}'"""},
}


def execution(run_id: str = "run", **what_matters: Any) -> dict[str, Any]:
    """A valid run of Alice's in PROJECT, with something in every payload."""
    return {
        "run_id": run_id,
        "project_id": PROJECT,
        "user_id": ALICE,
        "agent_id": "an agent",
        "intent": "Find out why.",
        "input": {"question": "Why?"},
        "output": {"answer": 42},
        "cost": {"total": "1.5", "breakdown": {"tokens": "1.5"}},
        "trace": {"duration_ms": 900, "steps": [{"action": "search"}]},
        "error_message": "It took long.",
        "parent_run_id": "what triggered it",
        **what_matters,
    }


def introduce(ledger: Ledger) -> None:
    """Have the ledger know both projects and both users."""
    ledger.tenancy.set_tier("pro", "1.5", effective_from=LONG_AGO)
    for user in (ALICE, BOB):
        ledger.tenancy.upsert_user(tier="pro", id=user)
    for project in (PROJECT, OTHER_PROJECT):
        ledger.tenancy.upsert_project("a project", id=project)


@contextmanager
def audited(url: str, *runs: Mapping[str, Any], kind: Kind = "called") -> Iterator[Ledger]:
    """A ledger that knows projects and users, with these runs."""
    with ledger_at(url, kind) as ledger:
        introduce(ledger)
        ledger.audit.record_executions(runs)
        yield ledger


def stored(connection: psycopg.Connection[Any]) -> list[tuple[str, ...]]:
    """Every row of the execution ledger as text, where it lies and who wrote it."""
    each = (
        f"SELECT '{table}', row.ctid::text, row.xmin::text, row::text FROM ledger.{table} AS row"
        for table in TABLES
    )
    return connection.execute(f"{' UNION ALL '.join(each)} ORDER BY 1, 4".encode()).fetchall()


def narrowed_to(user: UUID | None, url: str) -> str:
    """The URL of sessions in which `ledger.user_id` is that user, or set to nothing."""
    options = {"options": f"-c ledger.user_id={user or ''}"}
    narrowed = make_url(url).update_query_dict(options, append=True)
    return narrowed.render_as_string(hide_password=False)


def run_of(url: str, run_id: str) -> dict[str, Any]:
    """A stored run, column by column."""
    with superuser(url) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(
            "SELECT * FROM ledger.execution_ledger WHERE run_id = %s", [run_id]
        ).fetchall()[0]


def next_rows(url: str, *runs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows that these runs would be, were they appended now."""
    own = engine(url)
    try:
        with own.connect() as connection:
            Ledger.bound(connection).audit.record_executions(runs)
            rows = connection.exec_driver_sql(
                "SELECT to_jsonb(run) FROM ledger.execution_ledger AS run"
                " WHERE run_id = ANY (%s) ORDER BY project_id, sequence",
                ([run["run_id"] for run in runs],),
            ).scalars()
            found = list(rows)
            connection.rollback()
    finally:
        own.dispose()
    assert len(found) == len(runs)
    return found


def insertion(rows: Sequence[Mapping[str, Any]]) -> str:
    """The statement that puts these rows into the ledger, round all that appends."""
    written = json.dumps(rows).replace("'", "''")
    return (
        f"INSERT INTO ledger.execution_ledger ({APPENDED}) SELECT {APPENDED}"
        f" FROM json_populate_recordset(NULL::ledger.execution_ledger, '{written}')"
    )


NESTED = "nested deeper than Python recurses"


def by_sql(**payloads: object) -> str:
    """A run of Alice's in PROJECT as append_executions takes it, which nobody validates."""
    row = {
        "id": "00000000-0000-7000-8000-000000000001",
        "run_id": "odd",
        "project_id": str(PROJECT),
        "user_id": str(ALICE),
        "agent_id": "an agent",
        "intent": "Find out why.",
        "input": {},
        "cost_json": {"total": 1, "breakdown": {}},
        "execution_trace_json": {"duration_ms": 7},
        "status": "completed",
        "created_at": "1970-01-01T00:00:00Z",
        **payloads,
    }
    return json.dumps([row]).replace(json.dumps(NESTED), '{"a":' * 3000 + "1" + "}" * 3000)


def sqlstate(connection: psycopg.Connection[Any], *statements: str) -> str | None:
    """How these are refused, in a transaction of their own; None where they are not."""
    try:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement.encode())
    except psycopg.Error as error:
        print(error)  # noqa: T201 - shown where a test fails
        return error.sqlstate
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a role was granted, and what it should see by that."""

    kind: str
    users: Sequence[UUID] = ()
    projects: Sequence[UUID] = ()

    def __str__(self) -> str:
        of = f" of {len(self.users or self.projects)}" if self.users or self.projects else ""
        return f"{self.kind}{of}"

    def has(self, user: UUID, project: UUID) -> bool:
        if self.kind == "reader":
            return user in self.users
        return not self.projects or project in self.projects

    def granted_to(self, roles: Roles, role: Role) -> None:
        roles.grant(role.name, self.kind, self.users, projects=self.projects)


def own_by(roles: Roles, owner: str) -> None:
    """Have this role own the execution ledger, its parents, its sums, and what appends to it."""
    roles.own(f"GRANT USAGE ON SCHEMA ledger TO {owner}")
    for kind, name in roles.own(
        "SELECT 'TABLE', oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace ="
        " 'ledger'::regnamespace AND relname ~ '^(execution_|projects$|users$)'"
        " UNION ALL SELECT 'ROUTINE', oid::regprocedure::text FROM pg_proc"
        " WHERE pronamespace = 'ledger'::regnamespace AND prosecdef AND prosrc ~ 'execution_'"
    ):
        roles.own(f"ALTER {kind} {name} OWNER TO {owner}")


SCOPES = (
    Scope(kind="reader", users=(ALICE,)),
    Scope(kind="reader", users=(ALICE, BOB)),
    Scope(kind="reader", users=(STRANGER,)),
    Scope(kind="service"),
    Scope(kind="auditor"),
    Scope(kind="auditor", projects=(PROJECT,)),
    Scope(kind="auditor", projects=(PROJECT, OTHER_PROJECT)),
    Scope(kind="auditor", projects=(STRANGER,)),
)
"""A role of each kind, bound and not."""
