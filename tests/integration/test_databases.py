"""The databases that the other tests run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import make_url

from tests.databases import Databases, Finding, Target
from tests.servers import libpq

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.every_target


def test_every_kind_of_database_is_here(finding: Finding) -> None:
    if not finding.servers:
        pytest.skip(finding.missing)
    for server in finding.servers:
        major = server.execute("SELECT current_setting('server_version_num')::int / 10000")
        assert major == [(server.major,)]


@pytest.fixture(scope="module")
def toy_databases() -> Iterator[Databases]:
    """Databases with a schema so small that these tests hold before there are migrations."""
    databases = Databases(migrate=toy_migration)
    yield databases
    databases.drop_all()


def toy_migration(url: str, revision: str = "head", *, storage: str, percentiles: str) -> None:
    if revision == "head":
        return  # all was done at the first revision
    with psycopg.connect(libpq(make_url(url)), autocommit=True) as connection:
        connection.execute("CREATE TABLE calls (at timestamptz NOT NULL, encoding text)")
        if storage == "timescale":
            connection.execute("CREATE EXTENSION timescaledb")
            connection.execute("SELECT create_hypertable('calls', 'at')")
            connection.execute("SELECT add_retention_policy('calls', interval '90 days')")
        connection.execute("INSERT INTO calls VALUES (now(), %s)", [percentiles])


def test_a_test_has_a_copy_of_the_template_to_itself(
    toy_databases: Databases, target: Target
) -> None:
    for _ in range(2):
        name = toy_databases.create(target.server, template=toy_databases.template(target))
        found = target.server.execute("SELECT encoding FROM calls", name)
        target.server.execute("INSERT INTO calls VALUES (now(), 'mine')", name)

        assert found == [(target.percentiles,)]


def test_a_database_goes_although_somebody_is_connected(
    toy_databases: Databases, target: Target
) -> None:
    name = toy_databases.create(target.server)
    url = target.server.url.set(database=name)
    with psycopg.connect(libpq(url)):
        toy_databases.drop(name)

    found = target.server.execute(f"SELECT FROM pg_database WHERE datname = '{name}'")
    assert found == []


@pytest.mark.storage("timescale")
def test_no_policy_runs_by_itself_in_a_test(toy_databases: Databases, target: Target) -> None:
    name = toy_databases.create(target.server, template=toy_databases.template(target))
    workers = target.server.execute(
        "SELECT backend_type FROM pg_stat_activity"
        f" WHERE datname = '{name}' AND backend_type LIKE 'TimescaleDB%'"
    )

    assert workers == []
