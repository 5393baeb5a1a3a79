"""The entry point of the `ledger` command."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from ledger.cli import audit, billing, db, maintain, prices, retention, seed, telemetry, verify
from ledger.cli.database import Database, DatabaseURL, Debug, EmbeddedFolder

DISTRIBUTION = "llm-ledger"


def _say_version(is_asked: bool) -> None:  # noqa: FBT001 - typer calls it
    if is_asked:
        typer.echo(f"{DISTRIBUTION} {version(DISTRIBUTION)}")
        raise typer.Exit


def options(
    context: typer.Context,
    *,
    database_url: DatabaseURL = None,
    embedded: EmbeddedFolder = None,
    debug: Debug = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_say_version, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Exact books of what a backend asks of language models."""
    context.obj = Database(database_url=database_url, embedded=embedded, debug=debug)


def app() -> typer.Typer:
    """The whole command."""
    command = typer.Typer(
        name="ledger",
        no_args_is_help=True,
        # What fails is explained where it is caught; typer's own tracebacks are long.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    command.callback()(options)
    telemetry.add_to(command)
    seed.add_to(command)
    maintain.add_to(command)
    command.add_typer(billing.app(), name="billing", rich_help_panel="Questions")
    command.add_typer(audit.app(), name="audit", rich_help_panel="Questions")
    command.add_typer(db.app(), name="db", rich_help_panel="Upkeep")
    command.add_typer(retention.app(), name="retention", rich_help_panel="Upkeep")
    command.add_typer(prices.app(), name="prices", rich_help_panel="Upkeep")
    command.add_typer(verify.app(), name="verify", rich_help_panel="Upkeep")
    return command


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name, by default the process's."""
    app()(args=arguments, prog_name="ledger")
