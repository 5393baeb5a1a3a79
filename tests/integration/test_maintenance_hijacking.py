"""What the owner runs, runs no code of another role, whatever that one made in `public`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import make_url

from ledger import Storage
from ledger.ddl.access import grant, revoke
from ledger.ddl.migrate import check, downgrade, upgrade
from ledger.engine import engine
from ledger.models.latency import SKETCH_BUCKETS, SKETCH_ERROR
from tests.books import ROLLUPS, USER, Books, call, calls, opened, sums
from tests.catalogues import stop_jobs
from tests.databases import Databases, Target
from tests.roles import Role, Roles, roles_of
from tests.servers import libpq
from tests.traps import HOSTILE_PATH, set_traps, sprung, step_among_them

pytestmark = pytest.mark.every_target

DAY = timedelta(days=1)


@pytest.fixture
def books(database_url: str, target: Target) -> Iterator[Books]:
    with opened(database_url, target) as books:
        yield books


@pytest.fixture
def roles(database_url: str) -> Iterator[Roles]:
    with roles_of(database_url) as roles:
        yield roles


@pytest.fixture
def hostile(roles: Roles) -> Role:
    """A role that may create in `public`, as everybody may before PostgreSQL 15."""
    role = roles.create()
    roles.own(f'GRANT CREATE, USAGE ON SCHEMA public TO "{role.name}"')
    return role


def among_traps(url: str) -> str:
    """The owner's URL, of sessions that look for every name among the traps first."""
    path = HOSTILE_PATH.replace(" ", "")
    hostile = make_url(url).update_query_dict({"options": f"-csearch_path={path}"})
    return hostile.render_as_string(hide_password=False)


def test_the_traps_are_sprung_by_sql_that_takes_no_care(database_url: str, hostile: Role) -> None:
    set_traps(hostile)
    with psycopg.connect(libpq(make_url(database_url)), autocommit=True) as owner:
        step_among_them(owner)
        owner.execute("SELECT count(*) FROM pg_class WHERE now() - INTERVAL '1 day' < now()")
        owner.execute(
            "SELECT floor(1.5::double precision) + 1.0, 'x'::text, array_lower('{1}'::integer[], 1)"
        )

    assert {"count", "now", "-", "<", "floor", "pg_class", "text"} <= set(sprung(hostile))


def test_maintenance_springs_none(books: Books, hostile: Role, target: Target) -> None:
    books.write(call(books.day(ago=ago), ago) for ago in (30, 25, 3, 2))
    books.ledger.maintenance.run()
    books.write(calls(books.day(ago=4), 50, over=3 * DAY))
    set_traps(hostile)

    with opened(among_traps(books.url), target) as trapped:
        trapped.keep("raw", 20 * DAY)
        report = trapped.ledger.maintenance.run()
        found = trapped.ledger.maintenance.reconcile(books.everything())

    assert sprung(hostile) == []
    assert (report.problems, found.differences) == ((), ())
    if not books.is_timescale:
        assert report.days_retired == tuple(books.day(ago=ago).date() for ago in (30, 25))
    assert [books.shown(level) for level in ROLLUPS] == 2 * [sums(books.written)]


def test_routines_spring_none_in_whatever_session_the_owner_calls_them(
    books: Books, hostile: Role
) -> None:
    old = books.day(ago=30)
    books.write([call(old, 1), *calls(books.day(ago=4), 50, over=3 * DAY)])
    retired = f"llm_requests_p{old:%Y%m%d}"
    statements = ["CALL ledger.refresh_metrics()"]
    if not books.is_timescale:
        books.sql(f"ALTER TABLE ledger.llm_requests DETACH PARTITION ledger.{retired}")
        books.sql(f"UPDATE ledger.rollup_progress SET raw_from = '{old + DAY}'")
        statements = [
            f"SELECT ledger.retire_day('{retired}')",
            "SELECT ledger.refresh_metrics(1)",
            "SELECT ledger.refresh_metrics()",
            f"SELECT ledger.ensure_days(ARRAY['{books.day(ago=-8):%Y-%m-%d}'::date])",
        ]
    statements += [
        "SELECT ledger.raw_from(), ledger.uuid_time('5e0b7c3a-0000-7000-8000-000000000001')",
        *_reading_latencies(books),
    ]
    set_traps(hostile)

    with books.connect() as owner:
        step_among_them(owner)
        for statement in statements:
            owner.execute(statement.encode())

    assert sprung(hostile) == []
    assert [books.shown(level) for level in ROLLUPS] == 2 * [sums(books.written)]


def _reading_latencies(books: Books) -> list[str]:
    if books.target.percentiles == "uddsketch":
        sketch = f"public.uddsketch({SKETCH_BUCKETS}, {SKETCH_ERROR}, 7::double precision)"
        return [f"SELECT ledger.latency_percentile({sketch}, 0.5)"]
    bins = "ledger.latency_histogram(ledger.latency_bin(7))"
    return [
        f"SELECT ledger.latency_percentile({bins}::bigint[], 0.5)",
        f"SELECT ledger.merged_latency_histogram(h) FROM (SELECT {bins} AS h) AS one",
    ]


def test_migrations_and_what_they_are_asked_spring_none(database_url: str, hostile: Role) -> None:
    set_traps(hostile)
    trapped = among_traps(database_url)

    assert check(trapped) == check(database_url)
    downgrade(trapped, "0006")
    upgrade(trapped)
    owner = engine(trapped)
    with owner.begin() as connection:
        grant(connection, hostile.name, "reader", [USER])
        revoke(connection, hostile.name)
    owner.dispose()

    assert sprung(hostile) == []
    assert [str(found) for found in check(database_url) if not found.is_warning] == []


@pytest.mark.storage("timescale")
def test_a_schema_of_timescaledbs_that_is_open_to_all_is_warned_of(database_url: str) -> None:
    def warned() -> list[str]:
        return [str(found) for found in check(database_url) if "everybody" in found.problem]

    assert warned() == []
    with psycopg.connect(libpq(make_url(database_url)), autocommit=True) as owner:
        owner.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    (found,) = warned()
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in found


@pytest.mark.storage("timescale")
def test_extensions_may_be_in_any_schema(databases: Databases, target: Target) -> None:
    name = databases.create(target.server)
    url = databases.url(target.server, name)
    target.server.execute('CREATE SCHEMA "the tools"', name)
    for extension in ("timescaledb", "timescaledb_toolkit"):
        if extension == "timescaledb" or target.percentiles == "uddsketch":
            target.server.execute(f'CREATE EXTENSION {extension} SCHEMA "the tools"', name)
    # Before there are any: one that is stopped as it begins has failed when it ran last.
    stop_jobs(url)
    upgrade(url, storage=Storage.TIMESCALE, percentiles=target.percentiles)

    with opened(url, target) as books:
        books.write(calls(books.day(ago=4), 50, over=3 * DAY))
        report = books.ledger.maintenance.run()
        found = books.ledger.maintenance.reconcile(books.everything())
        assert (report.problems, found.differences, found.requests) == ((), (), 50)
        assert [books.shown(level) for level in ROLLUPS] == 2 * [sums(books.written)]
    assert [str(found) for found in check(url) if not found.is_warning] == []
    downgrade(url, "base", allow_data_loss=["llm_requests"])
    databases.drop(name)
