"""`ledger prices`: what models cost, and which calls wait for somebody to say it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.cli.commands import command
from ledger.cli.console import hint, out, printable, say, say_json
from ledger.cli.database import Database
from ledger.cli.failures import FOUND_SOMETHING
from ledger.cli.figures import counted, moment
from ledger.cli.price_import import import_
from ledger.cli.price_plan import in_force
from ledger.cli.price_words import few_of, price_table, unpriced_table
from ledger.cli.questions import JSON, Since, Until, moment_of, window_between
from ledger.cli.repricing import reprice
from ledger.records.plain import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.records.prices import ModelPrice


def show(
    database: Database,
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As calls are recorded.")],
    provider: Annotated[str | None, typer.Option(help="Only this one's.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="DATE", help="When; an ISO 8601 time without an offset is UTC. By default now."
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """What a model costs, in US dollars for a million tokens, and who says so.

    By provider, service tier and context size: the price from so many input tokens on. Exits
    with 1 where nobody has said any, not even that it is withdrawn.
    """
    asked = datetime.now(UTC) if at is None else moment_of(at).astimezone(UTC)
    with database.ledger() as ledger:
        prices = ledger.billing.model_prices(model, provider=provider)
    holding = in_force(prices, asked)
    if as_json:
        say_json(plain({"model": model, "at": asked, "prices": holding}))
    elif holding:
        heading = f"{printable(model)} on {moment(asked)} UTC, US dollars for a million tokens"
        console = out()
        console.print(heading, style="bold", soft_wrap=True)
        console.print(price_table(holding))
    if not holding:
        hint(_why_none(prices, asked, model, provider))
        raise typer.Exit(FOUND_SOMETHING)


def unpriced(
    database: Database,
    *,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many lines.")] = 50,
    as_json: JSON = False,
) -> None:
    """Calls that were booked without a price and have none yet, by what they wait for.

    Of all times, unless --from says since when.
    """
    if since is None and until is not None:
        raise typer.BadParameter("say --from as well: a window ends somewhere and begins somewhere")
    window = None if since is None else window_between(since, until)
    with database.ledger() as ledger:
        waiting = ledger.billing.unpriced_usage(window, limit=limit)
        priced = {price.provider for price in ledger.billing.model_prices()} if waiting else set()
    if as_json:
        say_json([each.to_dict() for each in waiting])
    elif not waiting:
        say("No call waits for a price.")
    else:
        calls = sum(each.requests for each in waiting)
        out().print(unpriced_table(waiting))
        say(f"{counted(calls, 'call')} without a price.")
        hint("Prices come with: ledger prices import")
        if strangers := sorted({each.provider for each in waiting} - priced):
            hint(f"Nothing is priced of {few_of(strangers)}.")
            hint("Where the catalogue has another name for one:")
            hint(f"  ledger prices import --as google={printable(strangers[0])}")
        first = min(each.first_created_at for each in waiting)
        hint(f"Calls of before get theirs with: ledger prices reprice --from {first:%Y-%m-%d}")


def app() -> typer.Typer:
    """The commands under `ledger prices`."""
    group = typer.Typer(
        help="What models cost, and which calls have no price.", no_args_is_help=True
    )
    group.command("import")(command(import_))
    group.command("show")(command(show))
    group.command("unpriced")(command(unpriced))
    group.command("reprice")(command(reprice))
    return group


def _why_none(prices: Sequence[ModelPrice], at: datetime, model: str, provider: str | None) -> str:
    whose = f"model {model!r}" + (f" of provider {provider!r}" if provider else "")
    if not prices:
        return (
            f"There is no price of {whose}; `ledger prices import` adds those of a catalogue or"
            " of a file of your own, and `--text-only` those of models that take audio, too."
        )
    first = min(price.effective_from for price in prices)
    return f"Prices of {whose} begin on {moment(first)} UTC, after {moment(at)}."
