"""The upgrade as a script: written without a server, run through psql, refused by the wrong one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import make_url

from ledger.ddl import migrate
from ledger.embedded.programs import BINARIES, PACKAGE
from ledger.errors import InvalidSettings
from ledger.settings import Percentiles, Storage
from tests.alembics import alembic
from tests.catalogues import snapshot, sql, stop_jobs
from tests.databases import Target
from tests.servers import libpq

pytestmark = pytest.mark.every_target


def psql_program() -> str:
    beside = Path(str(distribution(PACKAGE).locate_file(""))) / BINARIES / "psql"
    found = str(beside) if beside.exists() else shutil.which("psql")
    if found is None:
        pytest.skip("there is no psql on this machine")
    return found


def psql(url: str, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [psql_program(), "-X", "-q", "-v", "ON_ERROR_STOP=1", libpq(make_url(url))],
        input=script,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def went_well(ran: subprocess.CompletedProcess[str]) -> bool:
    """TimescaleDB notices, in each clean run, that there was no policy to replace."""
    return ran.returncode == 0 and not {"ERROR:", "WARNING:"} & set(ran.stderr.split())


def errors(url: str) -> list[str]:
    return [str(found) for found in migrate.check(url) if not found.is_warning]


@pytest.fixture
def empty_url(empty_database_url: str) -> Iterator[str]:
    yield empty_database_url
    stop_jobs(empty_database_url)


def test_the_script_makes_what_the_upgrade_makes(empty_url: str, target: Target) -> None:
    script = migrate.upgrade_sql(storage=target.storage, percentiles=target.percentiles)

    ran = psql(empty_url, script)

    assert went_well(ran), ran.stderr
    assert migrate.current(empty_url) == migrate.head()
    assert errors(empty_url) == []


def test_a_script_of_the_rest_goes_on_where_one_ended(empty_url: str, target: Target) -> None:
    first = alembic(None, target, "upgrade", "0005", "--sql")
    rest = alembic(None, target, "upgrade", "0005:head", "--sql")
    assert (first.returncode, rest.returncode) == (0, 0), first.stderr + rest.stderr

    for script in (first.stdout, rest.stdout):
        ran = psql(empty_url, script)
        assert went_well(ran), ran.stderr

    assert errors(empty_url) == []


def test_the_guard_stops_the_script_on_the_wrong_server(empty_url: str, target: Target) -> None:
    if target.server.has_timescale:
        sql(
            empty_url,
            "CREATE SCHEMA ledger",
            "CREATE TABLE ledger.installation (storage text, percentiles text)",
        )
        sql(empty_url, "INSERT INTO ledger.installation VALUES ('other', 'other')")
        said = "the database has another"
    else:
        said = "a server with timescaledb, which this one lacks"
    before = snapshot(empty_url)

    script = migrate.upgrade_sql(storage=Storage.TIMESCALE, percentiles=Percentiles.HISTOGRAM)
    ran = psql(empty_url, script)

    assert ran.returncode != 0
    assert said in ran.stderr
    assert snapshot(empty_url) == before


def test_the_script_refuses_a_schema_of_somebody(empty_url: str, target: Target) -> None:
    sql(empty_url, "CREATE SCHEMA ledger", "CREATE TABLE ledger.accounts (x integer)")
    before = snapshot(empty_url)

    ran = psql(
        empty_url, migrate.upgrade_sql(storage=target.storage, percentiles=target.percentiles)
    )

    assert ran.returncode != 0
    assert "this package did not make" in ran.stderr
    assert snapshot(empty_url) == before


def test_a_script_needs_both_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEDGER_PERCENTILES", raising=False)
    monkeypatch.setenv("LEDGER_STORAGE", "postgres")
    with pytest.raises(InvalidSettings, match="LEDGER_PERCENTILES"):
        command.upgrade(migrate._config(), "head", sql=True)
