"""Runs the `ledger` command as a person would, without a process of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from typer.testing import CliRunner

from ledger.cli.main import app

VARIABLES = (
    "LEDGER_DATABASE_URL",
    "LEDGER_PG_CONNECTION_STRING",
    "DATABASE_URL",
    "LEDGER_READ_URL",
    "LEDGER_MIGRATION_URL",
    "LEDGER_STORAGE",
    "LEDGER_PERCENTILES",
    "LEDGER_DEBUG",
    "FORCE_COLOR",
    "COLUMNS",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command printed, and how it ended."""

    exit_code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed for programs."""
        return json.loads(self.out)


def run(*arguments: object, environment: Mapping[str, str] | None = None) -> Ran:
    """Run `ledger` with these arguments, in an empty folder and with only this environment."""
    runner = CliRunner(env=dict.fromkeys(VARIABLES) | dict(environment or {}))
    with TemporaryDirectory() as empty, chdir(empty):
        result = runner.invoke(app(), [str(argument) for argument in arguments], prog_name="ledger")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(exit_code=result.exit_code, out=result.stdout, err=result.stderr)


def succeed(*arguments: object, environment: Mapping[str, str] | None = None) -> Ran:
    """Run `ledger`, which has to end well."""
    ran = run(*arguments, environment=environment)
    assert ran.exit_code == 0, ran.err
    return ran
