"""`ledger prices reprice`: what today's prices change of calls that are booked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ledger.cli.console import busy, hint, out, printable, say, say_json
from ledger.cli.database import Database
from ledger.cli.figures import count, counted, usd
from ledger.cli.questions import JSON, Until, window_between
from ledger.cli.tables import plain_table

if TYPE_CHECKING:
    from rich.table import Table

    from ledger.records.repricing import Repricing


def reprice(
    database: Database,
    *,
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Calls that were made from then on.")
    ],
    until: Until = None,
    book: Annotated[
        bool, typer.Option("--book", help="Book the differences. Without it they are only shown.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Price booked calls by the prices known now, those that wait for one among them.

    What was booked stays; each difference is a row of its own, dated now, and booked once
    however often this runs. Calls of a stated cost keep it.
    """
    window = window_between(since, until)
    with database.ledger() as ledger, busy("Pricing calls"):
        done = ledger.billing.reprice(window, dry_run=not book)
    if as_json:
        say_json(done.to_dict())
        return
    say(_summary(done))
    if done.by_model:
        out().print(_table(done))
    if done.changed and not book:
        hint("Nothing is booked yet: --book does.")


def _summary(done: Repricing) -> str:
    verb = "would be" if done.is_dry_run else "were"
    differences = done.changed if done.is_dry_run else done.booked
    words = f"{counted(done.examined, 'call')} looked at; {counted(differences, 'difference')}"
    words += f" {verb} booked, {count(done.newly_priced)} of calls that had no price."
    if done.still_unpriced:
        words += f" {counted(done.still_unpriced, 'call')} still without one."
    return words


def _table(done: Repricing) -> Table:
    table = plain_table(
        names=("provider", "model"), numbers=("calls", "cost, USD", "charge, USD", "credits")
    )
    for each in done.by_model:
        table.add_row(
            Text(printable(each.provider)),
            Text(printable(each.model)),
            count(each.requests),
            usd(each.vendor_cost_change_usd),
            usd(each.charge_change_usd),
            count(each.credits_change),
        )
    return table
