"""Who sees what through the views: each role its own, whatever it sets or defines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.books import call, opened
from tests.databases import Databases, Target
from tests.roles import Role, Roles, roles_of

pytestmark = pytest.mark.every_target

ALICE, BOB, VICTIM = (UUID(int=number << 64 | 1) for number in (1, 2, 3))
REQUESTS = {ALICE: 2, BOB: 3, VICTIM: 4}
VIEWS = ("visible_requests", "visible_metrics_1m", "visible_metrics_1h")
BOOKS = ("alembic_version", "installation", "rollup_progress")
CATALOGUES = ("users", "providers", "projects", "tiers", "model_prices")
"""What a writer books usage by."""
RUNS = ("execution_ledger", "execution_deltas", "execution_days", "execution_costs")
"""Row level security shows a reader its own runs, and no sums."""
TABLES = ("llm_requests", "llm_metrics_1m", "llm_metrics_1h", "role_scopes")

DENIED = psycopg.errors.InsufficientPrivilege


@pytest.fixture(scope="module")
def filled_url(databases: Databases, target: Target) -> Iterator[str]:
    """A database where some calls are rolled up, and some are not yet; tests only read it."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    with opened(url, target) as books:
        books.write(
            call(books.now - timedelta(days=2, seconds=number), number, user_id=user)
            for user, requests in REQUESTS.items()
            for number in range(requests - 1)
        )
        books.ledger.maintenance.run()
        books.write(call(books.now, 9, user_id=user) for user in REQUESTS)
    yield url
    databases.drop(name)


@pytest.fixture
def roles(filled_url: str) -> Iterator[Roles]:
    with roles_of(filled_url) as roles:
        yield roles


def seen(role: Role, **settings: str) -> dict[UUID, int]:
    """The requests that the role sees, by user, once it is certain that all views agree."""
    requests, minutes, hours = (
        {user: int(count) for name, user, count in rows if name == view}
        for rows in [role.sql(" UNION ALL ".join(map(_counted, VIEWS)), **settings)]
        for view in VIEWS
    )
    assert requests == minutes == hours
    return requests


def _counted(view: str) -> str:
    requests = "count(*)" if view == "visible_requests" else "sum(requests)"
    return f"SELECT '{view}', user_id, {requests} FROM ledger.{view} GROUP BY user_id"


def only(*users: UUID) -> dict[UUID, int]:
    return {user: REQUESTS[user] for user in users}


@pytest.mark.parametrize("users", [[ALICE], [ALICE, BOB]], ids=["one user", "two users"])
def test_a_reader_sees_its_users_only(roles: Roles, users: list[UUID]) -> None:
    assert seen(roles.granted("reader", users)) == only(*users)


def test_a_reader_of_a_user_without_requests_sees_nothing(roles: Roles) -> None:
    assert seen(roles.granted("reader", [uuid4()])) == {}


def test_a_reader_that_sets_the_variable_to_a_victim_sees_nothing(roles: Roles) -> None:
    reader = roles.granted("reader", [ALICE, BOB])

    assert seen(reader, ledger__user_id=str(VICTIM)) == {}


def test_a_reader_that_asks_for_a_victim_by_name_sees_nothing(roles: Roles) -> None:
    reader = roles.granted("reader", [ALICE])

    for view in VIEWS:
        for setting in ({}, {"ledger__user_id": str(VICTIM)}, {"ledger__user_id": str(ALICE)}):
            assert (
                reader.sql(f"SELECT 1 FROM ledger.{view} WHERE user_id = '{VICTIM}'", **setting)
                == []
            )


def test_the_variable_narrows_a_reader_to_one_of_its_users(roles: Roles) -> None:
    reader = roles.granted("reader", [ALICE, BOB])

    assert seen(reader, ledger__user_id=str(BOB)) == only(BOB)


@pytest.mark.parametrize("kind", ["service", "auditor"])
def test_a_service_and_an_auditor_see_all_and_can_be_narrowed(roles: Roles, kind: str) -> None:
    role = roles.granted(kind)

    assert seen(role) == REQUESTS
    assert seen(role, ledger__user_id=str(BOB)) == only(BOB)
    assert seen(role, ledger__user_id=str(uuid4())) == {}


@pytest.mark.parametrize("kind", ["reader", "service"])
def test_the_variable_is_as_if_never_set_once_set_local_has_ended(roles: Roles, kind: str) -> None:
    role = roles.granted(kind, [ALICE, BOB] if kind == "reader" else [])
    ask = "SELECT user_id, count(*) FROM ledger.visible_requests GROUP BY user_id"

    with role.connect() as connection:
        with connection.transaction():
            connection.execute(f"SET LOCAL ledger.user_id = '{BOB}'")
            assert dict(connection.execute(ask)) == only(BOB)
        assert connection.execute("SHOW ledger.user_id").fetchall() == [("",)]
        assert dict(connection.execute(ask)) == (only(ALICE, BOB) if kind == "reader" else REQUESTS)


@pytest.mark.parametrize("kind", ["reader", "service", "auditor"])
def test_garbage_in_the_variable_is_an_error(roles: Roles, kind: str) -> None:
    role = roles.granted(kind, [ALICE] if kind == "reader" else [])

    with role.connect() as connection:
        for garbage in ("everybody", "%", f"{ALICE},{VICTIM}", " "):
            connection.execute("SELECT set_config('ledger.user_id', %s, false)", [garbage])
            for view in VIEWS:
                with pytest.raises(psycopg.errors.InvalidTextRepresentation):
                    connection.execute(f"SELECT count(*) FROM ledger.{view}".encode())


def test_a_writer_reads_nothing(roles: Roles) -> None:
    writer = roles.granted("writer")

    for relation in (*VIEWS, *TABLES):
        with pytest.raises(DENIED):
            writer.sql(f"SELECT count(*) FROM ledger.{relation}")


def test_a_role_without_a_scope_sees_nothing_whatever_was_granted_by_hand(roles: Roles) -> None:
    role = roles.create()
    for privilege in (
        "USAGE ON SCHEMA ledger",
        "SELECT ON ledger.my_scopes, " + ", ".join(f"ledger.{view}" for view in VIEWS),
        "EXECUTE ON ALL ROUTINES IN SCHEMA ledger",
    ):
        roles.own(f"GRANT {privilege} TO {role.name}")

    assert seen(role) == {}
    assert seen(role, ledger__user_id=str(ALICE)) == {}


def test_a_writer_that_was_let_into_the_views_by_hand_sees_nothing(roles: Roles) -> None:
    writer = roles.granted("writer")
    roles.own(f"GRANT SELECT ON ledger.my_scopes, ledger.visible_requests TO {writer.name}")
    roles.own(f"GRANT EXECUTE ON ALL ROUTINES IN SCHEMA ledger TO {writer.name}")

    assert writer.sql("SELECT 1 FROM ledger.visible_requests") == []


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_no_relation_but_the_views_can_be_read(roles: Roles, kind: str) -> None:
    role = roles.granted(kind, [ALICE] if kind == "reader" else [])

    assert readable(roles, role) == (
        {"my_scopes", "visible_usage", *VIEWS, *BOOKS, *RUNS}
        if kind == "reader"
        else {*BOOKS, *CATALOGUES}
    )


def readable(roles: Roles, role: Role) -> set[str]:
    """The relations of ours that the role may read, all of them or a column."""
    rows = roles.own(
        f"""SELECT relname FROM pg_class c, pg_namespace n
WHERE n.oid = relnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
  AND (nspname = 'ledger' OR nspname = '_timescaledb_internal'
       AND relname ~ '^(_hyper|_compressed_hyper|compress_hyper|_materialized|_partial|_direct)')
  AND (has_table_privilege('{role.name}', c.oid, 'SELECT')
       OR has_any_column_privilege('{role.name}', c.oid, 'SELECT'))"""
    )
    return {name for (name,) in rows}


def test_one_session_sees_by_the_role_that_it_is_now(roles: Roles) -> None:
    alice, bob = (roles.granted("reader", [user]) for user in (ALICE, BOB))
    login = roles.create()
    roles.own(f"GRANT {alice.name}, {bob.name} TO {login.name}")

    with login.connect() as connection:
        for reader, user in ((alice, ALICE), (bob, BOB), (alice, ALICE)):
            connection.execute(f'SET ROLE "{reader.name}"'.encode())
            # Prepared, as a plan that outlived the role would show the other's rows.
            found = connection.execute(
                "SELECT user_id, count(*) FROM ledger.visible_requests GROUP BY user_id",
                prepare=True,
            )
            assert dict(found.fetchall()) == only(user)


def test_a_leaky_function_is_not_shown_other_users_rows(roles: Roles) -> None:
    """security_barrier: else the cheap function would run before the filter and tell."""
    reader = roles.granted("reader", [ALICE])

    with reader.connect() as connection:
        told: list[str] = []
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        connection.execute(
            """CREATE FUNCTION pg_temp.tell(who uuid, what text) RETURNS boolean
            LANGUAGE plpgsql COST 0.0001
            AS $$ BEGIN RAISE NOTICE '%', who; RETURN true; END $$"""
        )
        for view in VIEWS:
            told.clear()
            connection.execute(
                f"SELECT 1 FROM ledger.{view} WHERE pg_temp.tell(user_id, model)".encode()
            )
            assert set(told) == {str(ALICE)}


@pytest.mark.parametrize("kind", ["reader", "service"])
def test_a_role_that_was_revoked_sees_nothing(roles: Roles, kind: str) -> None:
    role = roles.granted(kind, [ALICE] if kind == "reader" else [])
    roles.revoke(role.name)

    for relation in (*VIEWS, *TABLES):
        with pytest.raises(DENIED):
            role.sql(f"SELECT 1 FROM ledger.{relation}")
    assert readable(roles, role) == set()
    assert roles.scopes() == []
