"""`ledger retention`: how long raw rows and rollups are kept."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from ledger.cli.commands import command
from ledger.cli.console import out, say, say_json
from ledger.cli.database import Database
from ledger.cli.durations import parsed, spoken
from ledger.cli.questions import JSON
from ledger.cli.tables import facts
from ledger.ddl.retention import set_retention, wishes

WHAT = {"raw": "raw rows", "1m": "minutes", "1h": "hours"}


class Level(StrEnum):
    """What is kept."""

    RAW = "raw"
    MINUTES = "1m"
    HOURS = "1h"


def show(database: Database, *, as_json: JSON = False) -> None:
    """How long each level is kept."""
    with database.administration() as connection:
        kept = wishes(connection)
    if as_json:
        say_json({level: keep and keep.total_seconds() for level, keep in kept.items()})
    else:
        pairs = ((f"{level}, {WHAT[level]}", spoken(keep)) for level, keep in kept.items())
        out().print(facts(pairs))


def set_(
    database: Database,
    level: Annotated[Level, typer.Argument(help="Raw rows, minutes or hours.")],
    keep: Annotated[
        timedelta,
        typer.Argument(metavar="DURATION", parser=parsed, help="90d, '90 days', 12h, '1d 12h'."),
    ],
) -> None:
    """Keep a level for so long from now on.

    What would make a refresh or a late row erase rollups that are kept is refused. Rollups are
    refreshed first, as raw rows that go are rolled up no more.
    """
    if level is Level.RAW:
        with database.ledger() as ledger:
            ledger.maintenance.run()
    with database.administration() as connection:
        set_retention(connection, level.value, keep)
    say(f"{WHAT[level.value].capitalize()} are kept for {spoken(keep)}.")


def app() -> typer.Typer:
    """The commands under `ledger retention`."""
    group = typer.Typer(help="How long raw rows and rollups are kept.", no_args_is_help=True)
    group.command("show")(command(show))
    group.command("set")(command(set_))
    return group
