"""`ledger db`: make the database, bring its schema up or down, and look at it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy_utils import create_database, database_exists

from ledger.cli import roles, status
from ledger.cli.commands import command
from ledger.cli.console import busy, hint, say, say_json
from ledger.cli.database import Database
from ledger.cli.failures import FOUND_SOMETHING
from ledger.cli.questions import JSON
from ledger.ddl import migrate
from ledger.engine import database_url, shown, translated_errors
from ledger.errors import InvalidArgument
from ledger.settings import Percentiles, Settings, Storage

NO_REVISION = "none"

StorageOption = Annotated[
    Storage | None,
    typer.Option(help="What holds the time series. By default LEDGER_STORAGE, or what is best."),
]
PercentilesOption = Annotated[
    Percentiles | None,
    typer.Option(
        help="How rollups keep latencies. By default LEDGER_PERCENTILES, or what is best."
    ),
]


def create(database: Database) -> None:
    """Make the database that the URL names, where the server has none of that name."""
    with database.url() as named, translated_errors():
        url = database_url(named).difference_update_query(["pgbouncer"])
        if database_exists(url):
            say(f"{shown(url)} is there already.")
            return
        # Not template1: TimescaleDB's launcher may be connected to it, and that forbids a copy.
        create_database(url, template="template0")
        say(f"Made {shown(url)}.")
    hint("Next: ledger db upgrade")


def upgrade(
    database: Database,
    *,
    revision: Annotated[str, typer.Argument(help="How far; by default to the newest.")] = "head",
    sql: Annotated[
        bool, typer.Option("--sql", help="Print a script for psql and change nothing.")
    ] = False,
    storage: StorageOption = None,
    percentiles: PercentilesOption = None,
) -> None:
    """Bring the schema up to a revision. Safe beside another deploy, and after a killed one."""
    settings = Settings.load()
    storage, percentiles = storage or settings.storage, percentiles or settings.percentiles
    if sql:
        if storage is None or percentiles is None:
            raise InvalidArgument(
                "a script is for one kind of database; name it with --storage and --percentiles"
            )
        typer.echo(migrate.upgrade_sql(revision, storage=storage, percentiles=percentiles))
        return
    with database.url() as url:
        before = migrate.current(url)
        with busy("Migrating"):
            migrate.upgrade(url, revision, storage=storage, percentiles=percentiles)
        _say_revision(before, migrate.current(url))


def downgrade(
    database: Database,
    revision: Annotated[str, typer.Argument(help="How far back; `base` is to nothing.")],
    allow_data_loss: Annotated[
        list[str] | None,
        typer.Option(metavar="TABLE", help="Drop this table although it has rows. Repeatable."),
    ] = None,
) -> None:
    """Take the schema back to a revision. A table with rows is not dropped unless named."""
    with database.url() as url:
        before = migrate.current(url)
        with busy("Migrating"):
            migrate.downgrade(url, revision, allow_data_loss=allow_data_loss or ())
        _say_revision(before, migrate.current(url))


def current(database: Database) -> None:
    """The revision that the database is at."""
    with database.url() as url:
        say(migrate.current(url) or NO_REVISION)


def check(database: Database, *, as_json: JSON = False) -> None:
    """Whether the database is as this package declares it. Exits with 1 where it is not."""
    with database.url() as url, busy("Comparing"):
        differences = migrate.check(url)
    is_as_declared = all(difference.is_warning for difference in differences)
    if as_json:
        say_json([asdict(difference) for difference in differences])
    else:
        for difference in differences:
            say(f"{'Warning: ' if difference.is_warning else ''}{difference}")
        if is_as_declared:
            say("The database is as declared.")
    if not is_as_declared:
        raise typer.Exit(FOUND_SOMETHING)


def app() -> typer.Typer:
    """The commands under `ledger db`."""
    group = typer.Typer(help="The database, its schema and its roles.", no_args_is_help=True)
    for duty in (create, upgrade, downgrade, current, status.status, check):
        group.command()(command(duty))
    for granting in (roles.grant, roles.revoke):
        group.command(rich_help_panel="Roles")(command(granting))
    return group


def _say_revision(before: str | None, after: str | None) -> None:
    if before == after:
        say(f"The database is at revision {after or NO_REVISION}, as before.")
    else:
        was = before or NO_REVISION
        say(f"The database is at revision {after or NO_REVISION}; it was at {was}.")
