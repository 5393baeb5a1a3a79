"""Which storage a database gets, and when the migrations refuse to touch it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from ledger.ddl import migrate
from ledger.errors import ForeignSchema, StorageMismatch
from ledger.settings import Percentiles, Storage
from tests.catalogues import snapshot, sql, stop_jobs
from tests.databases import Target

pytestmark = pytest.mark.every_target

RECORDED = "SELECT storage, percentiles FROM ledger.installation"


@pytest.fixture
def url(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty database, and an environment that asks for nothing."""
    monkeypatch.delenv("LEDGER_STORAGE", raising=False)
    monkeypatch.delenv("LEDGER_PERCENTILES", raising=False)
    yield empty_database_url
    stop_jobs(empty_database_url)


def errors(url: str) -> list[str]:
    return [str(found) for found in migrate.check(url) if not found.is_warning]


def test_auto_takes_the_best_that_the_server_has(url: str, target: Target) -> None:
    migrate.upgrade(url)

    storage = "timescale" if target.server.has_timescale else "postgres"
    percentiles = "uddsketch" if target.server.has_toolkit else "histogram"
    assert sql(url, RECORDED) == [(storage, percentiles)]
    assert errors(url) == []


def test_the_environment_is_asked(
    url: str, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_STORAGE", target.storage)
    monkeypatch.setenv("LEDGER_PERCENTILES", target.percentiles)
    migrate.upgrade(url)
    assert sql(url, RECORDED) == [(target.storage, target.percentiles)]


def test_sketches_go_with_partitions_too(url: str, target: Target) -> None:
    if not target.server.has_toolkit:
        pytest.skip("this server has no timescaledb_toolkit")
    migrate.upgrade(url, storage=Storage.POSTGRES, percentiles=Percentiles.UDDSKETCH)
    assert errors(url) == []


def test_extensions_are_where_every_role_finds_them(url: str) -> None:
    migrate.upgrade(url)
    schemas = "SELECT DISTINCT extnamespace::regnamespace::text FROM pg_extension"
    assert {name for (name,) in sql(url, f"{schemas} WHERE extname <> 'plpgsql'")} <= {"public"}


def test_what_is_recorded_is_not_changed_by_asking(database_url: str, target: Target) -> None:
    other = {
        Storage.TIMESCALE: Storage.POSTGRES,
        Storage.POSTGRES: Storage.TIMESCALE,
    }[target.storage]
    with pytest.raises(StorageMismatch, match=f"installed with {target.storage}, not {other}"):
        migrate.upgrade(database_url, storage=other)
    encoding = next(each for each in Percentiles if each is not target.percentiles)
    with pytest.raises(StorageMismatch, match=f"installed with {target.percentiles}"):
        migrate.upgrade(database_url, percentiles=encoding)


def test_what_the_server_lacks_is_refused_and_nothing_made(url: str, target: Target) -> None:
    before = snapshot(url)
    if target.server.has_timescale:
        # The licence under which it has no continuous aggregates.
        name = make_url(url).database
        sql(url, f"ALTER DATABASE {name} SET timescaledb.license = 'apache'")
    with pytest.raises(StorageMismatch, match="lacks TimescaleDB"):
        migrate.upgrade(url, storage=Storage.TIMESCALE)
    if not target.server.has_toolkit:
        with pytest.raises(StorageMismatch, match="lacks timescaledb_toolkit"):
            migrate.upgrade(url, percentiles=Percentiles.UDDSKETCH)
    assert snapshot(url) == before


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE TABLE ledger.accounts (x integer)",
        "CREATE TABLE ledger.installation (x integer)",
        "CREATE FUNCTION ledger.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE ledger.currency AS ENUM ('EUR')",
    ],
)
def test_a_schema_of_somebody_is_left_alone(url: str, target: Target, theirs: str) -> None:
    sql(url, "CREATE SCHEMA ledger", theirs)
    before = snapshot(url)
    with pytest.raises(ForeignSchema, match="this package did not make"):
        migrate.upgrade(url, storage=target.storage, percentiles=target.percentiles)
    assert snapshot(url) == before


def test_an_empty_schema_is_taken(url: str, target: Target) -> None:
    sql(url, "CREATE SCHEMA ledger")
    migrate.upgrade(url, storage=target.storage, percentiles=target.percentiles)
    assert errors(url) == []


def test_an_ordinary_role_migrates_its_database(url: str, target: Target) -> None:
    name = str(make_url(url).database)
    role = f"{name}_owner"
    if target.storage == "timescale":
        sql(url, "CREATE EXTENSION timescaledb SCHEMA public")
    if target.percentiles == "uddsketch":
        sql(url, "CREATE EXTENSION timescaledb_toolkit SCHEMA public")
    sql(
        url,
        f"CREATE ROLE {role} LOGIN PASSWORD 'ordinary'",
        f"GRANT CREATE ON DATABASE {name} TO {role}",
    )
    try:
        theirs = make_url(url).set(username=role, password="ordinary")
        their_url = theirs.render_as_string(hide_password=False)
        migrate.upgrade(their_url, storage=target.storage, percentiles=target.percentiles)
        assert errors(their_url) == []
    finally:
        stop_jobs(url)
        migrate.downgrade(url, "base")
        sql(url, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")
