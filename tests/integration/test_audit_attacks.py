"""No statement changes a run, a head or an erasure, whoever sends it, and none is passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.audits import (
    ALICE,
    APPENDED,
    BOB,
    CHANGES,
    MERGES,
    OTHER_PROJECT,
    PROJECT,
    TABLES,
    TRUNCATES,
    WITHIN,
    audited,
    execution,
    insertion,
    next_rows,
    own_by,
    sqlstate,
    stored,
)
from tests.databases import Databases, Target
from tests.roles import Role, Roles, roles_of
from tests.writers import stop_jobs, superuser

REFUSED, DENIED = "LG006", "42501"
OTHERS_REFER = NO_COPY = "0A000"
KEPT_BY_A_KEY = {"23503", "23001"}
"""PostgreSQL 18 has a code of its own for RESTRICT."""

GRANTED = ("service", "writer", "reader", "auditor")
OWNING = ("owner", "member of the owner")
REPLICA = "superuser in replica mode"
MIGHTY = ("superuser", REPLICA, *OWNING)
LET_IN = "service with all privileges by hand"
EVERYBODY = (*MIGHTY, *GRANTED, LET_IN)
HEADLESS = UUID(int=3 << 64 | 1)
"""A project without runs."""

IN_TABLES = CHANGES | MERGES | TRUNCATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """A ledger whose rows nobody can change, so that all who try can share it."""

    url: str
    connections: dict[str, psycopg.Connection[Any]]
    next: list[dict[str, Any]]
    """The two rows that would be appended."""

    def tried(self, who: str, *statements: str) -> str | None:
        """How it is refused, if it is; and nothing is other than before."""
        before = stored(self.connections["superuser"])
        code = sqlstate(self.connections[who], *statements)
        assert stored(self.connections["superuser"]) == before
        return code


@pytest.fixture(scope="module")
def attacked(databases: Databases, target: Target) -> Iterator[Attacked]:
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    stop_jobs(url)
    runs = [
        execution("erased"),
        execution("second"),
        execution("third", user_id=BOB),
        execution("elsewhere", project_id=OTHER_PROJECT),
    ]
    with audited(url, *runs) as ledger, roles_of(url) as roles, ExitStack() as connections:
        ledger.audit.erase_payload("erased", "a request")
        ledger.tenancy.upsert_project("a project without runs", id=HEADLESS)
        made = roles_who_attack(roles)
        opened = {
            who: connections.enter_context(made[who].connect() if who in made else superuser(url))
            for who in EVERYBODY
        }
        opened[REPLICA].execute("SET session_replication_role = replica")
        following = next_rows(url, execution("fourth"), execution("fifth"))
        yield Attacked(url=url, connections=opened, next=following)
        roles.own(f"REASSIGN OWNED BY {made['owner'].name} TO CURRENT_USER")
    databases.drop(name)


def roles_who_attack(roles: Roles) -> dict[str, Role]:
    """Roles, and what a superuser put in front of the tables for them."""
    users = {"reader": [ALICE]}
    made = {kind: roles.granted(kind, users.get(kind, ())) for kind in GRANTED}
    made |= {LET_IN: roles.granted("service"), **{who: roles.create() for who in OWNING}}
    owner = made["owner"].name
    roles.own(f"GRANT ALL ON ALL TABLES IN SCHEMA ledger TO {owner}, {made[LET_IN].name}")
    own_by(roles, owner)
    roles.own(f"GRANT {owner} TO {made['member of the owner'].name}")
    for table in TABLES:
        roles.own(f"CREATE VIEW public.front_of_{table} AS SELECT * FROM ledger.{table}")
        roles.own(f"GRANT ALL ON public.front_of_{table} TO PUBLIC")
    roles.own(
        "CREATE FUNCTION public.as_superuser(statement text) RETURNS void LANGUAGE plpgsql"
        " SECURITY DEFINER AS 'BEGIN EXECUTE statement; END'"
    )
    return made


def codes(who: str) -> set[str]:
    """How those are refused who reach the table itself."""
    return {REFUSED} if who in MIGHTY else {DENIED, REFUSED} if who == LET_IN else {DENIED}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", IN_TABLES.values(), ids=IN_TABLES)
@pytest.mark.parametrize("who", EVERYBODY)
def test_a_change_is_refused(attacked: Attacked, who: str, table: str, change: str) -> None:
    statement = change.format(f"ledger.{table}", *WITHIN[table])
    assert attacked.tried(who, statement) in codes(who)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("who", EVERYBODY)
def test_a_change_through_a_view_of_a_superusers_is_refused(
    attacked: Attacked, who: str, table: str, change: str
) -> None:
    statement = change.format(f"public.front_of_{table}", *WITHIN[table])
    # The guard of a head looks for rows with the rights of who asks, and these two may not read
    # all it looks at; whether that is checked before it refuses, a plan of the moment decides.
    blind = {DENIED} if who in {"reader", "writer"} and table == "execution_heads" else set()
    assert attacked.tried(who, statement) in {REFUSED} | blind


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", IN_TABLES.values(), ids=IN_TABLES)
@pytest.mark.parametrize("who", [REPLICA, "owner", *GRANTED])
def test_a_change_through_a_function_of_a_superusers_is_refused(
    attacked: Attacked, who: str, table: str, change: str
) -> None:
    statement = change.format(f"ledger.{table}", *WITHIN[table])
    assert attacked.tried(who, f"SELECT public.as_superuser($${statement}$$)") == REFUSED


@pytest.mark.parametrize("who", [*OWNING, *GRANTED])
def test_only_a_superuser_may_replay_for_a_replica(attacked: Attacked, who: str) -> None:
    assert attacked.tried(who, "SET LOCAL session_replication_role = replica") == DENIED


# --- parents ---


@pytest.mark.parametrize("table", ["execution_ledger", "projects", "users"])
@pytest.mark.parametrize("who", EVERYBODY)
def test_what_others_refer_to_is_truncated_neither_alone_nor_with_its_runs(
    attacked: Attacked, who: str, table: str
) -> None:
    may = who in (*MIGHTY, LET_IN)
    alone, along = f"TRUNCATE ledger.{table}", f"TRUNCATE ledger.{table} CASCADE"
    assert attacked.tried(who, alone) == (OTHERS_REFER if may else DENIED)
    assert attacked.tried(who, along) == (REFUSED if may else DENIED)


@pytest.mark.parametrize("who", MIGHTY)
def test_a_table_that_nothing_refers_to_any_more_is_not_truncated(
    attacked: Attacked, who: str
) -> None:
    key = "execution_erasures_project_id_sequence_fkey"
    unlinked = f"ALTER TABLE ledger.execution_erasures DROP CONSTRAINT {key}"
    assert attacked.tried(who, unlinked, "TRUNCATE ledger.execution_ledger") == REFUSED


PARENTS = pytest.mark.parametrize("parent", ["project", "user"])
PARTINGS = pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM ledger.{0}s",
        "UPDATE ledger.{0}s SET id = gen_random_uuid()",
        "MERGE INTO ledger.{0}s USING (VALUES (1)) AS v (n) ON true WHEN MATCHED THEN DELETE",
    ],
    ids=["delete", "update", "merge"],
)


@PARENTS
@PARTINGS
@pytest.mark.parametrize("who", [*MIGHTY, *GRANTED])
def test_a_parent_of_runs_stays(attacked: Attacked, who: str, parent: str, change: str) -> None:
    # A service keeps the catalogues, and may change what is in them.
    may = who in MIGHTY or (who == "service" and change.startswith("UPDATE"))
    kept = {REFUSED} if who == REPLICA else KEPT_BY_A_KEY
    assert attacked.tried(who, change.format(parent)) in (kept if may else {DENIED})


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
@PARTINGS
@PARENTS
@pytest.mark.parametrize("who", MIGHTY)
def test_a_key_that_was_made_to_cascade_takes_no_row_along(
    attacked: Attacked, who: str, parent: str, change: str, action: str
) -> None:
    assert attacked.tried(who, *cascading(parent, action), change.format(parent)) == REFUSED


@PARENTS
@PARTINGS
@pytest.mark.parametrize("who", MIGHTY)
def test_a_parent_stays_where_its_keys_were_dropped(
    attacked: Attacked, who: str, parent: str, change: str
) -> None:
    dropped = [
        f"ALTER TABLE ledger.{table} DROP CONSTRAINT {table}_{parent}_id_fkey"
        for table in TABLES[: 2 if parent == "project" else 1]
    ]
    assert attacked.tried(who, *dropped, change.format(parent)) == REFUSED


@PARENTS
@pytest.mark.parametrize("who", ["superuser", REPLICA])
def test_parents_are_not_truncated_where_their_keys_were_dropped(
    attacked: Attacked, who: str, parent: str
) -> None:
    tables = ("execution_ledger", "execution_heads", "token_usage_ledger")
    dropped = [
        f"ALTER TABLE ledger.{table} DROP CONSTRAINT IF EXISTS {table}_{parent}_id_fkey"
        for table in tables
    ]
    assert attacked.tried(who, *dropped, f"TRUNCATE ledger.{parent}s") == REFUSED


@PARENTS
@PARTINGS
@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_parent_stays_whose_runs_an_old_snapshot_does_not_show(
    database_url: str, parent: str, change: str, isolation: str
) -> None:
    with audited(database_url) as ledger, superuser(database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}".encode())
            connection.execute("SELECT FROM ledger.users")
            ledger.audit.record_execution(execution("meanwhile"))
            assert sqlstate(connection, change.format(parent)) == REFUSED
        assert ledger.audit.verify(PROJECT).is_intact


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_what_nothing_refers_to_may_go_and_what_keeps_its_id_may_change(
    database_url: str, role: str
) -> None:
    kept = "SELECT count(*) FROM ledger.users UNION ALL SELECT count(*) FROM ledger.projects"
    with audited(database_url, execution("first")), superuser(database_url) as connection:
        connection.execute(f"SET session_replication_role = {role}".encode())
        for statement in (
            "UPDATE ledger.users SET id = id, tier = 'pro'",
            f"DELETE FROM ledger.users WHERE id <> '{ALICE}'",
            f"UPDATE ledger.projects SET id = gen_random_uuid() WHERE id <> '{PROJECT}'",
            f"DELETE FROM ledger.projects WHERE id <> '{PROJECT}'",
        ):
            assert sqlstate(connection, statement) is None
        assert connection.execute(kept.encode()).fetchall() == [(1,), (1,)]


def cascading(parent: str, action: str) -> list[str]:
    """What has the keys of a parent take rows along."""
    tables = TABLES[:2] if parent == "project" else TABLES[:1]
    return [
        f"ALTER TABLE ledger.{table} DROP CONSTRAINT {table}_{parent}_id_fkey,"
        f" ADD CONSTRAINT {table}_{parent}_id_fkey FOREIGN KEY ({parent}_id)"
        f" REFERENCES ledger.{parent}s (id) ON DELETE {action} ON UPDATE CASCADE"
        for table in tables
    ]


# --- heads, and rows that were not appended ---

ROW = f"FROM ledger.execution_ledger r WHERE h.project_id = '{PROJECT}' AND r.run_id ="


@pytest.mark.parametrize(
    "change",
    [
        f"SET sequence = r.sequence, hash = r.hash {ROW} 'second'",
        f"SET hash = r.hash {ROW} 'second'",
        f"SET sequence = r.sequence, hash = r.hash, project_id = r.project_id {ROW} 'elsewhere'",
        f"SET sequence = 9, hash = r.hash {ROW} 'third'",
        "SET sequence = 0, hash = DEFAULT",
        f"SET project_id = '{HEADLESS}' WHERE project_id = '{PROJECT}'",
    ],
    ids=["back", "another row's hash", "another project's", "ahead", "begin anew", "move"],
)
@pytest.mark.parametrize("who", MIGHTY)
def test_a_head_moves_only_to_a_row_that_was_appended(
    attacked: Attacked, who: str, change: str
) -> None:
    assert attacked.tried(who, f"UPDATE ledger.execution_heads h {change}") == REFUSED


NOTHING = r"\x" + "00" * 32
CONTENT = {
    "id": {"id": "00000000-0000-7000-8000-000000000000", "created_at": "1970-01-01T00:00:00Z"},
    "run_id": {"run_id": "forged"},
    "parent_run_id": {"parent_run_id": None},
    "project_id": {"project_id": str(HEADLESS)},
    "user_id": {"user_id": str(BOB)},
    "agent_id": {"agent_id": "forged"},
    "status": {"status": "failed"},
    "total": {"cost_json": {"total": 0}},
    "duration": {"execution_trace_json": {"duration_ms": 0}},
    "recorded_at": {"recorded_at": "9000-01-01T00:00:00Z"},
    "digests": {"payload_digests": NOTHING + "00" * 160},
    "hash": {"hash": NOTHING},
    "previous hash": {"previous_hash": NOTHING},
    "sequence": {"sequence": 9},
}
"""What a row may have that its hash is not of."""


@pytest.mark.parametrize("forged", CONTENT.values(), ids=CONTENT)
@pytest.mark.parametrize("place", [0, 1], ids=["the first", "the second"])
@pytest.mark.parametrize("who", ["superuser", *OWNING, *GRANTED, LET_IN])
def test_a_row_that_does_not_follow_is_refused_with_the_one_beside_it(
    attacked: Attacked, who: str, forged: dict[str, Any], place: int
) -> None:
    rows = [row | forged if number == place else row for number, row in enumerate(attacked.next)]
    assert attacked.tried(who, insertion(rows)) == (REFUSED if who in MIGHTY else DENIED)


@pytest.mark.parametrize("who", ["superuser", *OWNING])
def test_rows_are_refused_out_of_turn_and_of_a_chain_without_a_head(
    attacked: Attacked, who: str
) -> None:
    first, second = attacked.next
    assert attacked.tried(who, insertion([second]), insertion([first])) == REFUSED
    begins = execution("begins", project_id=HEADLESS)
    assert attacked.tried(who, insertion(next_rows(attacked.url, begins))) == REFUSED


@pytest.mark.parametrize("who", ["superuser", *OWNING, *GRANTED, LET_IN])
def test_a_copied_row_that_does_not_follow_is_refused(attacked: Attacked, who: str) -> None:
    copied = attacked.next[0] | {"hash": NOTHING}
    values = (copied[name] for name in APPENDED.split(", "))
    row = [json.dumps(value) if isinstance(value, dict) else value for value in values]
    before = stored(attacked.connections["superuser"])
    with pytest.raises(psycopg.Error) as error, attacked.connections[who].cursor() as cursor:
        copied_in(cursor, row)
    assert error.value.sqlstate in (codes(who) | ({NO_COPY} if who == LET_IN else set()))
    assert stored(attacked.connections["superuser"]) == before


def copied_in(cursor: psycopg.Cursor[Any], row: list[Any]) -> None:
    with cursor.copy(f"COPY ledger.execution_ledger ({APPENDED}) FROM STDIN".encode()) as copy:
        copy.write_row(row)


@pytest.mark.parametrize("who", ["superuser", *OWNING])
def test_rows_that_follow_are_let_in_and_move_the_head(attacked: Attacked, who: str) -> None:
    """Or those above may be refused for something else than what is forged in them."""
    first, second = attacked.next
    connection = attacked.connections[who]
    for statements in ([[second, first]], [[first], [second]]):
        with connection.transaction(force_rollback=True):
            for rows in statements:
                connection.execute(insertion(rows).encode())
            head = connection.execute(
                "SELECT sequence, '\\x' || encode(hash, 'hex') FROM ledger.execution_heads"
                " WHERE project_id = %s",
                [PROJECT],
            )
            assert head.fetchall() == [(second["sequence"], second["hash"])]


def test_a_chain_cannot_be_begun_in_its_middle(database_url: str) -> None:
    with audited(database_url), superuser(database_url) as connection:
        state = sqlstate(
            connection,
            "INSERT INTO ledger.execution_heads (project_id, sequence, hash)"
            f" VALUES ('{PROJECT}', 77, sha256('x'))",
        )
    assert state == "LG006"


def test_a_row_that_follows_is_refused_where_it_says_that_it_was_erased(database_url: str) -> None:
    with audited(database_url, execution("first")), superuser(database_url) as connection:
        (row,) = next_rows(database_url, execution("forged"))
        erased = {
            "salt": None,
            "intent": "[erased]",
            "input": {},
            "output": {},
            "cost_json": {"total": 1.5, "breakdown": {}},
            "execution_trace_json": {"duration_ms": 900, "steps": []},
            "error_message": "[erased]",
        }
        assert sqlstate(connection, insertion([{**row, **erased}])) == "LG006"
        assert sqlstate(connection, insertion([row])) is None, "what is appended is let in"
