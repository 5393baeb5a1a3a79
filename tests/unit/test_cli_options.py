"""The options of all commands, and how failures end; without any database."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ledger import InvalidSettings, LedgerError, RetentionRefused
from ledger.cli.commands import command
from ledger.cli.database import Database
from ledger.cli.failures import explained_failures
from ledger.cli.main import app, options
from tests.commands import run, succeed

UNREACHABLE = "postgresql://somebody:correct-horse@127.0.0.1:1/nowhere?connect_timeout=2"

COMMANDS = (
    *("overview", "latency", "costs", "errors", "time-series", "seed", "maintain", "reconcile"),
    *("db create", "db upgrade", "db downgrade", "db current", "db status", "db check"),
    *("db grant", "db revoke", "retention show", "retention set", "verify analytics"),
    *("billing margin", "billing providers", "billing models", "billing users", "billing trend"),
    *("billing distribution", "prices import", "prices show", "prices unpriced"),
)


def chosen(*arguments: str) -> Database:
    """The database that a command is handed for these arguments; `look` is its name."""
    handed: list[Database] = []
    probe = typer.Typer()
    probe.callback()(options)

    def look(database: Database) -> None:
        handed.append(database)

    probe.command()(command(look))
    result = CliRunner(env={"LEDGER_DEBUG": None}).invoke(probe, list(arguments))
    if not handed:
        raise ValueError(result.stderr)
    return handed[0]


def failing_with(error: BaseException, *, is_debugging: bool = False) -> int:
    """The exit code of a command that raises this."""
    with pytest.raises(typer.Exit) as ended, explained_failures(is_debugging=is_debugging):
        raise error
    return ended.value.exit_code


@pytest.fixture(params=COMMANDS)
def words(request: pytest.FixtureRequest) -> list[str]:
    command: str = request.param
    return command.split()


def test_every_command_explains_itself(words: list[str]) -> None:
    ran = succeed(*words, "--help")
    assert "--database-url" in ran.out
    assert "--embedded" in ran.out


def test_no_command_prints_the_help() -> None:
    ran = run()
    assert ran.exit_code == 2
    assert "time-series" in ran.out + ran.err


def test_the_version_is_the_distribution_s() -> None:
    assert succeed("--version").out == f"llm-ledger {version('llm-ledger')}\n"


def test_the_database_is_named_before_or_after_the_command() -> None:
    named = Database(database_url="postgresql://host/name")
    assert chosen("--database-url", "postgresql://host/name", "look") == named
    assert chosen("look", "--database-url", "postgresql://host/name") == named
    assert chosen("look", "--embedded", "there") == Database(embedded=Path("there"))
    assert chosen("--debug", "look") == chosen("look", "--debug") == Database(debug=True)


def test_what_is_named_after_the_command_goes_first() -> None:
    arguments = ("--database-url", "postgresql://one", "look", "--database-url", "postgresql://two")
    assert chosen(*arguments) == Database(database_url="postgresql://two")


@pytest.mark.parametrize(
    "arguments",
    [
        ("look", "--embedded", "there", "--database-url", "postgresql://host"),
        ("--embedded", "there", "look", "--database-url", "postgresql://host"),
        ("--embedded", "there", "--database-url", "postgresql://host", "look"),
    ],
)
def test_a_url_and_a_folder_exclude_one_another(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="not both"):
        chosen(*arguments)


@pytest.mark.parametrize(
    "name", ["LEDGER_DATABASE_URL", "LEDGER_PG_CONNECTION_STRING", "DATABASE_URL"]
)
def test_the_environment_names_the_database(name: str) -> None:
    ran = run("overview", "--all-users", environment={name: UNREACHABLE})
    assert ran.exit_code == 3
    assert "cannot be reached" in ran.err


def test_a_file_names_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"LEDGER_DATABASE_URL={UNREACHABLE}\n")
    result = CliRunner().invoke(app(), ["db", "current"])
    assert result.exit_code == 3
    assert "cannot be reached" in result.stderr


def test_without_a_database_the_message_says_how_to_name_one(words: list[str]) -> None:
    given = {"overview": ["--all-users"], "latency": ["--all-users"], "costs": ["--all-users"],
             "errors": ["--all-users"], "time-series": ["--all-users"],
             "db downgrade": ["base"], "db grant": ["role", "--as", "service"],
             "db revoke": ["role"], "retention set": ["1h", "90d"],
             "prices show": ["gpt-5"]}  # fmt: skip
    ran = run(*words, *given.get(" ".join(words), []))
    assert ran.exit_code == 2
    assert "LEDGER_DATABASE_URL" in ran.err
    assert not ran.out


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["plain", "debug"])
@pytest.mark.parametrize("words", [["db", "status"], ["db", "create"], ["seed"], ["maintain"]])
def test_the_password_is_never_printed(words: list[str], debug: list[str]) -> None:
    ran = run(*words, *debug, "--database-url", UNREACHABLE)
    assert ran.exit_code == 3
    assert ran.err
    assert "correct-horse" not in ran.out + ran.err


@pytest.mark.parametrize(
    "url",
    ["correct-horse", "mysql://me:correct-horse@host/name", "postgresql://me:correct@horse@host"],
)
def test_a_url_that_cannot_be_read_is_a_usage_error_without_the_url(url: str) -> None:
    ran = run("db", "current", "--database-url", url)
    assert ran.exit_code == 2
    assert "horse" not in ran.out + ran.err


def test_an_error_is_a_paragraph_and_no_traceback() -> None:
    ran = run("overview", "--all-users", "--database-url", UNREACHABLE)
    assert ran.exit_code == 3
    assert "Traceback" not in ran.err
    assert not ran.out


@pytest.mark.parametrize(
    "how", [{"arguments": ["--debug"]}, {"environment": {"LEDGER_DEBUG": "1"}}]
)
def test_debugging_shows_the_traceback(how: dict[str, object]) -> None:
    arguments = how.get("arguments", [])
    environment = how.get("environment", {})
    assert isinstance(arguments, list)
    assert isinstance(environment, dict)
    url = ("--database-url", UNREACHABLE)
    ran = run("overview", "--all-users", *arguments, *url, environment=environment)
    assert ran.exit_code == 3
    assert "Traceback" in ran.err


def test_exit_codes_tell_whose_fault_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing_with(InvalidSettings("no such setting")) == 2
    assert failing_with(RetentionRefused("would erase")) == 3
    assert failing_with(LedgerError()) == 3
    assert "would erase" in capsys.readouterr().err


def test_what_nobody_expected_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing_with(ZeroDivisionError("by zero")) == 3
    told = capsys.readouterr().err
    assert "ZeroDivisionError: by zero" in told
    assert "--debug" in told
    assert "Traceback" not in told


def test_an_interrupt_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing_with(KeyboardInterrupt()) == 130
    assert capsys.readouterr() == ("", "")


def test_a_script_needs_no_database() -> None:
    ran = succeed("db", "upgrade", "--sql", "--storage", "postgres", "--percentiles", "histogram")
    assert "CREATE TABLE ledger.llm_requests" in ran.out


def test_a_script_is_for_a_kind_of_database_that_must_be_named() -> None:
    ran = run("db", "upgrade", "--sql", "--storage", "postgres")
    assert ran.exit_code == 2
    assert "--percentiles" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("overview",),
        ("overview", "--user", "nobody"),
        ("overview", "--all-users", "--interval", "2H"),
        ("overview", "--all-users", "--from", "yesterday"),
        ("time-series", "--all-users", "--bucket", "1 month"),
        ("costs", "--all-users", "--timezone", "Mars/Olympus"),
        ("retention", "set", "2h", "90d"),
        ("retention", "set", "1h", "soon"),
        ("db", "grant", "role", "--as", "king"),
        ("db", "downgrade"),
        ("seed", "--rows", "-1"),
        ("seed", "--days", "0"),
        ("nonsense",),
    ],
)
def test_wrong_use_is_told_apart(arguments: tuple[str, ...]) -> None:
    ran = run(*arguments, environment={"LEDGER_DATABASE_URL": UNREACHABLE})
    assert ran.exit_code == 2
    assert "Traceback" not in ran.err
