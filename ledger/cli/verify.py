"""`ledger verify`: whether a database is what those who build on it may rely on."""

from __future__ import annotations

import typer
from rich.table import Table

from ledger.cli.commands import command
from ledger.cli.console import busy, out, say_json
from ledger.cli.database import Database
from ledger.cli.failures import FOUND_SOMETHING
from ledger.cli.questions import JSON
from ledger.cli.verification import printed
from ledger.maintenance.verification import verify_analytics
from ledger.repositories.ledger import Ledger


def analytics(database: Database, *, as_json: JSON = False) -> None:
    """Verify the billing ledger: its schema, its indexes, its data, and how fast it answers.

    Exits with 1 where something failed. Warnings, such as that there is no data, do not fail.
    """
    with database.url() as url, _asked(database, url) as ledger, busy("Verifying"):
        report = verify_analytics(url, ledger.billing)
    if as_json:
        say_json(report.to_dict())
    else:
        console = out()
        for part in printed(report):
            console.print(part, soft_wrap=not isinstance(part, Table))
    if not report.is_ready:
        raise typer.Exit(FOUND_SOMETHING)


def _asked(database: Database, url: str) -> Ledger:
    """The ledger as an application has it.

    LEDGER_MIGRATION_URL, by which the schema is looked at, may lead around a pooler.
    """
    is_named = database.embedded is not None or database.database_url is not None
    return Ledger.connect(url) if is_named else Ledger.from_environment()


def app() -> typer.Typer:
    """The commands under `ledger verify`."""
    group = typer.Typer(help="Whether a database can be relied on.", no_args_is_help=True)
    group.callback()(_verify)
    group.command()(command(analytics))
    return group


def _verify() -> None:
    """Without this, typer would make a lone command the group itself."""
