"""Who sees which runs: each role its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from uuid import UUID

import psycopg
import pytest

from ledger import Ledger
from ledger.errors import ConflictingRecord, PermissionMissing, UnknownReference
from tests.audits import (
    ALICE,
    BOB,
    OTHER_PROJECT,
    PROJECT,
    SCOPES,
    STRANGER,
    TABLES,
    Scope,
    audited,
    execution,
    narrowed_to,
)
from tests.databases import Databases, Target
from tests.ledgers import ledger_at
from tests.roles import Role, Roles, roles_of
from tests.writers import Kind, sql, stop_jobs

DENIED = psycopg.errors.InsufficientPrivilege
RUNS = {
    f"of {user} in {project}": (user, project)
    for project in (PROJECT, OTHER_PROJECT)
    for user in (ALICE, BOB)
}
NARROWED = (None, ALICE, BOB, STRANGER)


@pytest.fixture(scope="module")
def filled_url(databases: Databases, target: Target) -> Iterator[str]:
    """A database where each user has a run in each project, Bob's erased; tests only read it."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    stop_jobs(url)
    runs = [execution(run, user_id=user, project_id=of) for run, (user, of) in RUNS.items()]
    with audited(url, *runs) as ledger:
        for run, (user, _) in RUNS.items():
            if user == BOB:
                ledger.audit.erase_payload(run, "a request")
    for table in TABLES:
        sql(
            url,
            f"CREATE VIEW public.{table} WITH (security_invoker) AS SELECT * FROM ledger.{table};"
            f"CREATE FUNCTION public.all_{table}() RETURNS SETOF ledger.{table} LANGUAGE sql STABLE"
            f" AS 'SELECT * FROM ledger.{table}'; GRANT SELECT ON public.{table} TO PUBLIC",
        )
    yield url
    databases.drop(name)


@pytest.fixture
def roles(filled_url: str) -> Iterator[Roles]:
    with roles_of(filled_url) as roles:
        yield roles


BOTH = (Scope(kind="reader", users=(ALICE,)), Scope(kind="auditor", projects=(OTHER_PROJECT,)))


def seen(
    role: Role, columns: str, table: str = "execution_ledger", **settings: str
) -> set[tuple[Any, ...]]:
    """What the role sees, once it is certain that it sees the same by every way."""
    ways = (f"ledger.{table}", f"public.{table}", f"public.all_{table}()")
    first, *others = (role.sql(f"SELECT {columns} FROM {way}", **settings) for way in ways)
    assert all(sorted(other) == sorted(first) for other in others)
    assert len(set(first)) == len(first)
    return set(first)


@pytest.mark.parametrize("narrowed", NARROWED, ids=["all", "alice", "bob", "a stranger"])
@pytest.mark.parametrize("scopes", [*((scope,) for scope in SCOPES), BOTH], ids=str)
def test_a_role_sees_the_runs_of_its_scopes_and_the_variable_only_narrows(
    roles: Roles, scopes: tuple[Scope, ...], narrowed: UUID | None
) -> None:
    role = roles.create()
    for scope in scopes:
        scope.granted_to(roles, role)
    expected = {
        (run,)
        for run, (user, project) in RUNS.items()
        if any(scope.has(user, project) for scope in scopes) and narrowed in (None, user)
    }
    assert seen(role, "run_id", ledger__user_id=str(narrowed or "")) == expected


@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_heads_and_erasures_are_shown_to_auditors_and_services(roles: Roles, scope: Scope) -> None:
    role = roles.create()
    scope.granted_to(roles, role)
    if scope.kind == "reader":
        for table in TABLES[1:]:
            with pytest.raises(DENIED):
                role.sql(f"SELECT 1 FROM ledger.{table}")
        # What somebody grants by hand shows a role no more than its scope.
        roles.own(f"GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO {role.name}")
    expected = {
        (project, 2)
        for project in (PROJECT, OTHER_PROJECT)
        if scope.kind != "reader" and scope.has(ALICE, project)
    }
    for table in TABLES[1:]:
        assert seen(role, "project_id, sequence", table) == expected


@pytest.mark.parametrize("scope", SCOPES[3:], ids=str)
@pytest.mark.parametrize("table", TABLES[1:])
def test_who_is_narrowed_to_a_user_sees_no_heads_and_erasures_of_everybody(
    roles: Roles, scope: Scope, table: str
) -> None:
    role = roles.create()
    scope.granted_to(roles, role)
    assert seen(role, "project_id", table, ledger__user_id=str(BOB)) == set()


@pytest.mark.parametrize("scope", [SCOPES[0], SCOPES[3], SCOPES[5]], ids=str)
def test_garbage_in_the_variable_is_an_error(roles: Roles, scope: Scope) -> None:
    role = roles.create()
    scope.granted_to(roles, role)
    for garbage in ("everybody", "%", f"{ALICE},{BOB}", " "):
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            role.sql("SELECT 1 FROM ledger.execution_ledger", ledger__user_id=garbage)


def test_an_auditor_of_a_project_sees_nothing_else_of_the_ledger(roles: Roles) -> None:
    role = roles.granted("auditor", projects=[PROJECT])
    relations = sql(
        roles.url,
        "SELECT relname FROM pg_class WHERE relnamespace = 'ledger'::regnamespace"
        " AND relname ~ '^(llm_|token_|visible_|tiers|model_prices|providers)' AND relkind"
        " IN ('r', 'p', 'v', 'm')",
    )
    assert len(relations) > 10
    for (relation,) in relations:
        with pytest.raises(DENIED):
            role.sql(f"SELECT 1 FROM ledger.{relation}")


@pytest.mark.parametrize("narrowed", [None, ALICE], ids=["all", "alice"])
@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_who_does_not_see_every_run_neither_verifies_nor_proves(
    roles: Roles, scope: Scope, narrowed: UUID | None
) -> None:
    role = roles.create()
    scope.granted_to(roles, role)
    with Ledger.connect(roles.url) as ledger:
        taken = ledger.audit.checkpoint()
    is_everybodys = scope.kind in {"service", "auditor"} and not scope.projects
    sees_all = is_everybodys and narrowed is None
    sees_project = sees_all or (PROJECT in scope.projects and narrowed is None)
    run_id = f"of {ALICE} in {PROJECT}"
    with Ledger.connect(narrowed_to(narrowed, role.url)) as ledger:
        audit = ledger.audit
        sees_run = audit.execution(run_id) is not None
        unseen = PermissionMissing if sees_run else UnknownReference
        for ask, is_let, refusal in (
            (audit.checkpoint, sees_all, PermissionMissing),
            (audit.verify_all, sees_all, PermissionMissing),
            (lambda: audit.verify(PROJECT), sees_project, PermissionMissing),
            (lambda: audit.inclusion_proof(run_id, taken), sees_project, unseen),
        ):
            with nullcontext() if is_let else pytest.raises(refusal):
                ask()


@pytest.mark.parametrize("kind", [None, "writer"])
@pytest.mark.parametrize("narrowed", ["", str(ALICE)])
def test_a_role_that_sees_nothing_sees_nothing_whatever_was_granted_by_hand(
    roles: Roles, kind: str | None, narrowed: str
) -> None:
    role = roles.create() if kind is None else roles.granted(kind)
    for table in TABLES:
        with pytest.raises(DENIED):
            role.sql(f"SELECT 1 FROM ledger.{table}", ledger__user_id=narrowed)
    roles.own(f"GRANT USAGE ON SCHEMA ledger TO {role.name}")
    roles.own(f"GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO {role.name}")
    for table in TABLES:
        assert seen(role, "project_id", table, ledger__user_id=narrowed) == set()


@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_a_role_that_was_revoked_sees_nothing(roles: Roles, scope: Scope) -> None:
    role = roles.create()
    scope.granted_to(roles, role)
    roles.revoke(role.name)
    for table in TABLES:
        with pytest.raises(DENIED):
            role.sql(f"SELECT 1 FROM ledger.{table}")
    # Nor is a policy left that would show it something once it may read again.
    roles.own(f"GRANT USAGE ON SCHEMA ledger TO {role.name}")
    roles.own(f"GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO {role.name}")
    assert [seen(role, "project_id", table) for table in TABLES] == [set()] * 3


def test_one_session_sees_by_the_role_that_it_is_now(roles: Roles) -> None:
    scopes = (SCOPES[0], SCOPES[5], SCOPES[3], SCOPES[0])
    login = roles.create()
    with login.connect() as connection:
        for scope in scopes:
            role = roles.create()
            scope.granted_to(roles, role)
            roles.own(f"GRANT {role.name} TO {login.name}")
            connection.execute(f'SET ROLE "{role.name}"'.encode())
            # Prepared, as a plan that outlived the role would show the other's rows.
            found = connection.execute("SELECT run_id FROM ledger.execution_ledger", prepare=True)
            assert {run for (run,) in found} == {run for run in RUNS if scope.has(*RUNS[run])}


def test_a_leaky_function_is_not_shown_other_users_runs(roles: Roles) -> None:
    with roles.granted("reader", [ALICE]).connect() as connection:
        told: list[str] = []
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        connection.execute(
            """CREATE FUNCTION pg_temp.tell(who uuid) RETURNS boolean LANGUAGE plpgsql COST 0.0001
            AS $$ BEGIN RAISE NOTICE '%', who; RETURN true; END $$"""
        )
        connection.execute("SELECT 1 FROM ledger.execution_ledger WHERE pg_temp.tell(user_id)")
        assert set(told) == {str(ALICE)}


@pytest.mark.parametrize(
    "kind, may",
    [
        ("service", {"append_executions", "executions_by_run", "erase_execution"}),
        ("writer", {"append_executions", "executions_by_run"}),
        ("reader", set()),
        ("auditor", set()),
        (None, set()),
    ],
)
def test_what_acts_as_the_owner_is_executed_by_those_alone_whom_it_is_for(
    roles: Roles, kind: str | None, may: set[str]
) -> None:
    users = [ALICE] if kind == "reader" else []
    role = roles.create() if kind is None else roles.granted(kind, users)
    found = roles.own(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'ledger'::regnamespace AND prosecdef"
        f" AND prosrc ~ 'execution_' AND has_function_privilege('{role.name}', oid, 'EXECUTE')"
    )
    assert {name for (name,) in found} == may


# --- who records ---


@pytest.mark.parametrize("role_kind", ["writer", "service"])
def test_who_records_gets_its_run_back_and_is_told_a_duplicate_from_a_conflict(
    database_url: str, kind: Kind, role_kind: str
) -> None:
    with audited(database_url), roles_of(database_url) as roles:
        role = roles.granted(role_kind)
        with ledger_at(role.url, kind) as ledger:
            first = ledger.audit.record_execution(execution())
            assert (first.run_id, first.intent, first.sequence) == ("run", "Find out why.", 1)
            assert ledger.audit.record_execution(execution()) == first
            with pytest.raises(ConflictingRecord) as error:
                ledger.audit.record_execution(execution(intent="Another."))
            assert error.value.differing == ("intent",)
            report = ledger.audit.record_executions(
                [execution(), execution("second"), execution(agent_id="another")]
            )
            assert (report.inserted, report.duplicates, report.rejected_count) == (1, 1, 1)


@pytest.mark.parametrize("scope", [SCOPES[0], SCOPES[4], SCOPES[5]], ids=str)
def test_who_only_looks_records_nothing(roles: Roles, scope: Scope) -> None:
    role = roles.create()
    scope.granted_to(roles, role)
    with Ledger.connect(role.url) as ledger, pytest.raises(PermissionMissing):
        ledger.audit.record_execution(execution("another"))
    assert len(sql(roles.url, "SELECT 1 FROM ledger.execution_ledger")) == len(RUNS)
