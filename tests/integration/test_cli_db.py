"""`ledger db` on every database: made, migrated, checked, granted, and taken down again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import make_url

from ledger import Ledger
from ledger.ddl import migrate
from ledger.settings import Storage
from tests.builders import USER, transaction
from tests.commands import run, succeed
from tests.databases import Databases, Target
from tests.readings import Database
from tests.roles import PASSWORD, Roles, roles_of


@pytest.fixture
def kind(target: Target) -> dict[str, str]:
    """The environment that asks for the target's storage and encoding."""
    return {"LEDGER_STORAGE": target.storage, "LEDGER_PERCENTILES": target.percentiles}


def test_a_database_is_made_once(databases: Databases, target: Target) -> None:
    name = databases.create(target.server)
    url = databases.url(target.server, name)
    databases.drop(name)
    assert succeed("db", "create", "--database-url", url).out.startswith("Made ")
    again = succeed("db", "create", "--database-url", url)
    assert "is there already" in again.out
    assert succeed("db", "current", "--database-url", url).out == "none\n"
    target.server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_a_schema_goes_up_down_and_up(empty_database_url: str, kind: dict[str, str]) -> None:
    at = ("--database-url", empty_database_url)
    head = migrate.head()
    assert succeed("db", "current", *at).out == "none\n"
    up = succeed("db", "upgrade", *at, environment=kind)
    assert up.out == f"The database is at revision {head}; it was at none.\n"
    assert "as before" in succeed("db", "upgrade", *at).out
    assert succeed("db", "current", *at).out == f"{head}\n"
    down = succeed("db", "downgrade", "base", *at)
    assert down.out == f"The database is at revision none; it was at {head}.\n"
    succeed("db", "upgrade", "0001", *at, environment=kind)
    assert succeed("db", "current", *at).out == "0001\n"


def test_a_table_with_rows_is_dropped_only_when_it_is_named(database_url: str) -> None:
    at = ("--database-url", database_url)
    with Ledger.connect(database_url) as ledger:
        ledger.telemetry.insert_transaction(transaction())
    refused = run("db", "downgrade", "base", *at)
    assert refused.exit_code == 3
    assert "llm_requests" in refused.err
    succeed("db", "downgrade", "base", "--allow-data-loss", "llm_requests", *at)


def test_storage_that_is_not_the_installed_one_is_refused(
    database_url: str, target: Target
) -> None:
    other = "postgres" if target.storage == "timescale" else "timescale"
    ran = run("db", "upgrade", "--storage", other, "--database-url", database_url)
    assert ran.exit_code == 3
    assert target.storage in ran.err


def test_status_before_the_first_revision_says_what_to_run(empty_database_url: str) -> None:
    ran = succeed("db", "status", "--database-url", empty_database_url)
    assert "PostgreSQL" in ran.out
    assert "none" in ran.out
    assert "ledger db upgrade" in ran.err
    status = succeed("db", "status", "--json", "--database-url", empty_database_url).json()
    assert status["revision"] is None
    assert status["installation"] is None


def test_status_is_where_the_database_stands(database_url: str, target: Target) -> None:
    status = succeed("db", "status", "--json", "--database-url", database_url).json()
    assert status["revision"] == status["head"] == migrate.head()
    made = status["installation"]
    assert (made["storage"], made["percentiles"]) == (target.storage, target.percentiles)
    assert made["retention"]["1h"] == 730 * 86_400
    assert made["estimated_requests"] == 0
    password = make_url(database_url).password
    assert password is None or password not in str(status)
    shown = succeed("db", "status", "--database-url", database_url).out
    assert target.storage in shown
    assert "90 days" in shown


def test_status_estimates_how_many_requests_there_are(database_url: str, target: Target) -> None:
    with Ledger.connect(database_url) as ledger:
        ledger.telemetry.insert_transactions(transaction() for _ in range(40))
    Database(url=database_url, storage=Storage(target.storage)).sql("ANALYZE ledger.llm_requests")
    status = succeed("db", "status", "--json", "--database-url", database_url).json()
    assert status["installation"]["estimated_requests"] == 40


def test_check_finds_what_was_changed_behind_the_migrations(
    database_url: str, target: Target
) -> None:
    at = ("--database-url", database_url)
    assert "as declared" in succeed("db", "check", *at).out
    books = Database(url=database_url, storage=Storage(target.storage))
    books.sql("DROP INDEX ledger.llm_requests_category_idx")
    ran = run("db", "check", *at)
    assert ran.exit_code == 1
    assert "llm_requests_category_idx" in ran.out
    found = run("db", "check", "--json", *at)
    assert found.exit_code == 1
    assert any("llm_requests_category_idx" in str(difference) for difference in found.json())


def test_check_of_an_empty_database_says_what_to_run(empty_database_url: str) -> None:
    ran = run("db", "check", "--database-url", empty_database_url)
    assert ran.exit_code == 3
    assert "ledger db upgrade" in ran.err


def test_questions_to_an_empty_database_say_what_to_run(empty_database_url: str) -> None:
    for words in (["overview", "--all-users"], ["seed"], ["maintain"], ["retention", "show"]):
        ran = run(*words, "--database-url", empty_database_url)
        assert ran.exit_code == 3
        assert "ledger db upgrade" in ran.err


@pytest.fixture
def roles(database_url: str) -> Iterator[Roles]:
    with roles_of(database_url) as roles:
        yield roles


def test_roles_are_granted_and_revoked(database_url: str, roles: Roles) -> None:
    at = ("--database-url", database_url)
    role = roles.create(suffix=" -odd").name
    succeed("db", "grant", role, "--as", "reader", "--user", USER, *at)
    assert roles.scopes() == [(role, "reader", USER, None)]
    succeed("db", "grant", role, "--as", "service", *at)
    assert {kind for _, kind, _, _ in roles.scopes()} == {"reader", "service"}
    succeed("db", "revoke", role, *at)
    assert roles.scopes() == []


def test_a_granted_service_asks_and_seeds(roles: Roles) -> None:
    service = roles.granted("service").url
    succeed("seed", "--rows", 10, "--days", 1, "--database-url", service)
    asked = ("--all-users", "--interval", "7D", "--json")
    assert succeed("overview", *asked, "--database-url", service).json()["requests"] == 10


def test_a_role_without_a_grant_is_told_what_gives_it(roles: Roles) -> None:
    stranger = roles.create().url
    ran = run("overview", "--all-users", "--database-url", stranger)
    assert ran.exit_code == 3
    assert "ledger db grant" in ran.err
    assert PASSWORD not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [("nobody-has-this-name", "--as", "service"), ("nobody-has-this-name", "--as", "reader")],
)
def test_a_grant_that_makes_no_sense_is_wrong_use(
    database_url: str, arguments: tuple[str, ...]
) -> None:
    ran = run("db", "grant", *arguments, "--database-url", database_url)
    assert ran.exit_code == 2
    assert ran.err


def test_an_interrupt_ends_maintenance_quietly(database_url: str) -> None:
    command = [sys.executable, "-c", "from ledger.cli.main import main; main()"]
    environment = {**os.environ, "LEDGER_DATABASE_URL": database_url}
    with subprocess.Popen(
        [*command, "maintain", "--forever", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as maintaining:
        assert maintaining.stdout is not None
        assert maintaining.stdout.readline().startswith("{"), "the report of the first run"
        maintaining.send_signal(signal.SIGINT)
        _, err = maintaining.communicate(timeout=30)
    assert maintaining.returncode == 130
    assert err == ""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach, which pytest's own may not be."""
    with TemporaryDirectory(prefix="ledger-tests-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path, "books")


def test_a_folder_is_a_database_too(folder: Path) -> None:
    at = ("--embedded", folder)
    assert "none" in succeed(*at, "db", "status").out
    succeed("seed", "--rows", 20, "--days", 1, *at)
    succeed("maintain", *at)
    asked = ("--all-users", "--interval", "7D", "--json")
    assert succeed(*at, "overview", *asked).json()["requests"] == 20
    assert succeed(*at, "db", "check").exit_code == 0
