"""What `ledger db grant` gives: each kind of role just what it needs to do its work."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import make_url

from ledger.ddl.migrate import check
from ledger.errors import ConflictingRecord, InvalidArgument, PermissionMissing
from ledger.queries.scope import ALL_USERS
from ledger.repositories.ledger import Ledger
from ledger.window import Window
from tests.books import SOMEBODY_WAITS, USER, Books, call, calls, opened
from tests.databases import Databases, Target
from tests.roles import Role, Roles, roles_of
from tests.servers import libpq

DENIED = psycopg.errors.InsufficientPrivilege


@pytest.fixture(scope="module")
def shared_url(databases: Databases, target: Target) -> Iterator[str]:
    """A database that stays as it is but for roles, which are dropped at the end of a test."""
    name = databases.create(target.server, template=databases.template(target))
    yield databases.url(target.server, name)
    databases.drop(name)


@pytest.fixture
def roles(shared_url: str) -> Iterator[Roles]:
    with roles_of(shared_url) as roles:
        yield roles


@pytest.fixture
def workers(database_url: str) -> Iterator[Roles]:
    """Roles in the database of `books`."""
    with roles_of(database_url) as roles:
        yield roles


@pytest.fixture
def books(workers: Roles, target: Target) -> Iterator[Books]:
    with opened(workers.url, target) as books:
        yield books


def privileges(roles: Roles, role: Role) -> list[tuple[object, ...]]:
    """All that the role may do in the schema."""
    return roles.own(
        f"""SELECT 'relation', relname, privilege FROM pg_class, unnest(relacl::text[]) AS privilege
WHERE relnamespace = 'ledger'::regnamespace AND privilege LIKE '%{role.name}%'
UNION ALL SELECT 'routine', proname, privilege FROM pg_proc, unnest(proacl::text[]) AS privilege
WHERE pronamespace = 'ledger'::regnamespace AND privilege LIKE '%{role.name}%'
UNION ALL SELECT 'schema', nspname, privilege FROM pg_namespace, unnest(nspacl::text[]) AS privilege
WHERE privilege LIKE '%{role.name}%' ORDER BY 1, 2, 3"""
    )


@pytest.mark.parametrize("kind", ["reader", "writer", "service", "auditor"])
def test_a_grant_that_is_repeated_changes_nothing(roles: Roles, kind: str) -> None:
    users = [UUID(int=1), UUID(int=2)] if kind == "reader" else []
    role = roles.granted(kind, users)
    before = privileges(roles, role), check(roles.url)

    roles.grant(role.name, kind, users[::-1] + users)

    assert (privileges(roles, role), check(roles.url)) == before
    assert [(name, user) for name, _, user, _ in roles.scopes()] == [
        (role.name, user) for user in users or (None,)
    ]


def test_a_second_grant_adds_users_and_kinds_and_a_revocation_takes_all(roles: Roles) -> None:
    role = roles.granted("reader", [UUID(int=1)])
    roles.grant(role.name, "reader", [UUID(int=2)])
    roles.grant(role.name, "writer")

    assert roles.scopes() == [
        (role.name, "reader", UUID(int=1), None),
        (role.name, "reader", UUID(int=2), None),
        (role.name, "writer", None, None),
    ]
    roles.revoke(role.name)
    assert (roles.scopes(), privileges(roles, role)) == ([], [])


@pytest.mark.parametrize(
    "kind, users, complaint",
    [
        ("reader", [], "name at least one"),
        ("owner", [], "'owner' is not a kind"),
        ("READER", [USER], "'READER' is not a kind"),
        ("writer", [USER], "name none"),
        ("service", [USER], "name none"),
        ("auditor", [USER], "name none"),
    ],
)
def test_a_grant_that_makes_no_sense_grants_nothing(
    roles: Roles, kind: str, users: list[UUID], complaint: str
) -> None:
    role = roles.create()

    with pytest.raises(InvalidArgument, match=complaint):
        roles.grant(role.name, kind, users)
    assert (roles.scopes(), privileges(roles, role)) == ([], [])


@pytest.mark.parametrize("name", ["nobody_of_that_name", "", "public", "current_user", "postgres;"])
def test_only_roles_that_exist_are_granted_to_and_revoked_from(roles: Roles, name: str) -> None:
    with pytest.raises(InvalidArgument, match="there is no database role"):
        roles.grant(name, "service")
    with pytest.raises(InvalidArgument, match="there is no database role"):
        roles.revoke(name)
    assert roles.scopes() == []


@pytest.mark.parametrize("suffix", [' "of" mine', " :role", " %s %(role)s", "'; --", "ÄÖ\\"])
def test_a_role_may_have_any_name(roles: Roles, suffix: str) -> None:
    user = uuid4()
    role = roles.granted("reader", [user], suffix=suffix)

    assert role.sql("SELECT * FROM ledger.my_scopes") == [("reader", user)]
    roles.revoke(role.name)
    with pytest.raises(DENIED):
        role.sql("SELECT * FROM ledger.my_scopes")


def test_many_grants_at_once_all_succeed(roles: Roles) -> None:
    """As when each of a service's hosts grants while it starts."""
    made = [roles.create() for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(roles.grant, role.name, "service") for role in made * 2]:
            done.result()

    assert len(roles.scopes()) == len(made)


def grant_an_auditor(roles: Roles) -> Callable[[], None]:
    role = roles.create()
    return lambda: roles.grant(role.name, "auditor")


def renew_after_an_upgrade(roles: Roles) -> Callable[[], None]:
    """Of two roles, as the first one's privileges are no reason to lose the second one's policy."""
    roles.granted("reader", [USER])
    role = roles.granted("auditor")
    policies = roles.own(
        "SELECT polname FROM pg_policy WHERE polrelid = 'ledger.execution_ledger'::regclass"
        f" AND polroles = ARRAY['{role.name}'::regrole::oid]"
    )
    for (policy,) in policies:
        roles.own(f"DROP POLICY {policy} ON ledger.execution_ledger")
    return roles.renew


@pytest.mark.parametrize("begin", [grant_an_auditor, renew_after_an_upgrade])
def test_a_grant_and_a_vacuum_do_not_stand_in_each_others_way(
    roles: Roles, begin: Callable[[Roles], Callable[[], None]]
) -> None:
    grant = begin(roles)
    with psycopg.connect(libpq(make_url(roles.url))) as vacuum, ThreadPoolExecutor(1) as threads:
        vacuum.execute("LOCK TABLE ledger.execution_ledger IN SHARE UPDATE EXCLUSIVE MODE")
        granting = threads.submit(grant)
        while not roles.own(f"SELECT WHERE {SOMEBODY_WAITS}"):
            assert not granting.done()
        # It ends with what a vacuum does: it writes to the table's row of pg_class in place,
        # and waits for whoever has changed that.
        vacuum.execute("ANALYZE ledger.execution_ledger")
        vacuum.commit()
        granting.result()

    assert [found for found in check(roles.url) if not found.is_warning] == []


def test_a_later_role_of_the_same_name_does_not_inherit_what_was_revoked(roles: Roles) -> None:
    role = roles.granted("reader", [USER])
    roles.own(f"DROP OWNED BY {role.name}; DROP ROLE {role.name}")
    roles.revoke(role.name)
    roles.own(f"CREATE ROLE {role.name} LOGIN")

    assert roles.scopes() == []


def in_the_last_days(books: Books) -> Window:
    return Window(start=books.now - timedelta(days=9), end=books.now + timedelta(minutes=1))


def reads(ledger: Ledger, window: Window) -> list[object]:
    """The answers to all questions, about everybody."""
    telemetry = ledger.telemetry
    questions: list[Callable[..., object]] = [
        telemetry.overview,
        telemetry.time_series,
        telemetry.provider_model_latency,
        telemetry.daily_model_cost,
        telemetry.error_rate,
    ]
    return [ask(ALL_USERS, window) for ask in questions]


@pytest.mark.parametrize("kind", ["service", "auditor"])
def test_a_service_and_an_auditor_read_through_the_ledger_what_the_owner_does(
    workers: Roles, books: Books, kind: str
) -> None:
    books.write(calls(books.now - timedelta(days=3), 50, over=timedelta(days=3)))
    books.ledger.maintenance.run()
    window = in_the_last_days(books)

    with Ledger.connect(workers.granted(kind).url) as ledger:
        assert reads(ledger, window) == reads(books.ledger, window)


@pytest.mark.parametrize("kind", ["writer", "service"])
def test_a_writer_and_a_service_write_and_repeat_through_the_ledger(
    workers: Roles, books: Books, kind: str
) -> None:
    sent = calls(books.now - timedelta(days=40), 60, over=timedelta(days=40))

    with Ledger.connect(workers.granted(kind).url) as ledger:
        # Copied, then staged, then copied again over keys that are there.
        assert ledger.telemetry.insert_transactions(sent[:40]).inserted == 40
        repeated = ledger.telemetry.insert_transactions(sent)
        assert (repeated.inserted, repeated.duplicates, repeated.rejected) == (20, 40, ())
        assert ledger.telemetry.insert_transaction(sent[0]) == sent[0].id
        with pytest.raises(ConflictingRecord):
            ledger.telemetry.insert_transaction(sent[0].model_copy(update={"latency_ms": 1}))
    assert books.sql("SELECT count(*) FROM ledger.llm_requests") == [(60,)]


@pytest.mark.storage("timescale")
def test_extensions_are_where_every_role_finds_them(roles: Roles) -> None:
    """Also where the owner is named as the schema, in which its search_path then begins."""
    found = roles.own(
        "SELECT DISTINCT extnamespace::regnamespace::text FROM pg_extension"
        " WHERE extname LIKE 'timescaledb%'"
    )
    assert found == [("public",)]


@pytest.mark.storage("timescale")
@pytest.mark.parametrize("kind", ["writer", "service"])
def test_a_late_row_goes_into_the_columnstore_as_a_granted_role(
    workers: Roles, books: Books, kind: str
) -> None:
    books.write(calls(books.day(ago=10), 20, over=timedelta(hours=1)))
    books.sql("SELECT compress_chunk(chunk) FROM show_chunks('ledger.llm_requests') AS chunk")
    late = call(books.day(ago=10) + timedelta(minutes=7), 99)

    with Ledger.connect(workers.granted(kind).url) as ledger:
        report = ledger.telemetry.insert_transactions([*books.written, late])
    assert (report.inserted, report.duplicates, report.rejected) == (1, 20, ())


@pytest.mark.parametrize("kind", ["reader", "auditor"])
def test_a_reader_and_an_auditor_write_nothing(workers: Roles, books: Books, kind: str) -> None:
    role = workers.granted(kind, [USER] if kind == "reader" else [])

    with (
        Ledger.connect(role.url) as ledger,
        pytest.raises(PermissionMissing, match="ledger db grant"),
    ):
        ledger.telemetry.insert_transaction(call(books.now, user_id=USER))


def test_a_writer_reads_nothing_through_the_ledger(workers: Roles, books: Books) -> None:
    with (
        Ledger.connect(workers.granted("writer").url) as ledger,
        pytest.raises(PermissionMissing),
    ):
        ledger.telemetry.overview(ALL_USERS, in_the_last_days(books))


def test_grants_suffice_where_public_may_execute_nothing(workers: Roles, books: Books) -> None:
    """As on servers whose default privileges take functions away from PUBLIC."""
    workers.own("REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA ledger FROM PUBLIC")
    books.write([call(books.now - timedelta(days=2), 1, user_id=USER)])
    books.ledger.maintenance.run()

    with Ledger.connect(workers.granted("service").url) as service:
        sent = call(books.now - timedelta(days=1), 2, user_id=USER)
        service.telemetry.insert_transactions([sent])
        service.telemetry.insert_transactions([sent])
        window = in_the_last_days(books)
        assert reads(service, window) == reads(books.ledger, window)
    with Ledger.connect(workers.granted("writer").url) as writer:
        writer.telemetry.insert_transaction(call(books.now, 3, user_id=USER))
        writer.telemetry.insert_transactions([sent])
    with Ledger.connect(workers.granted("auditor").url) as auditor:
        assert len(reads(auditor, window)) == 5
    reader = workers.granted("reader", [USER])
    assert reader.sql("SELECT count(*) FROM ledger.visible_requests") == [(3,)]
    for level in ("1m", "1h"):
        found = reader.sql(
            "SELECT sum(requests), count(p95_latency_ms), count(average_latency_ms)"
            f" FROM ledger.visible_metrics_{level}"
        )
        assert found == [(3, 3, 3)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach, which pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="ledger-tests-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path, "ledger")


def test_an_embedded_ledger_makes_its_own_role_a_service(folder: Path) -> None:
    """A superuser passes every privilege, and sees nothing through views without a scope."""
    for _ in range(2):
        with Ledger.embedded(folder) as ledger:
            engine = ledger._engine
            assert engine is not None
            with engine.connect() as connection:
                rows = connection.exec_driver_sql(
                    "SELECT role = current_user, kind, ledger.sees_all() FROM ledger.role_scopes"
                )
                assert rows.all() == [(True, "service", True)]
