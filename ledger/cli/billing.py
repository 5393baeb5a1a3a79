"""`ledger billing`: what calls cost, what was charged for them, and the margin that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ledger.cli.billing_questions import BillingQuestion
from ledger.cli.billing_tables import (
    distribution_table,
    margin_table,
    model_cost_table,
    provider_cost_table,
    trend_chart,
    user_cost_table,
)
from ledger.cli.commands import command
from ledger.cli.console import canvas, hint, out, say, say_json
from ledger.cli.database import Database
from ledger.cli.figures import moment, percentile_bound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from ledger.records.billing import MarginTotals
    from ledger.window import Window

Zone = Annotated[
    str, typer.Option(metavar="ZONE", help="Whose days, an IANA name such as Europe/Berlin.")
]


def margin(database: Database, question: BillingQuestion) -> None:
    """Revenue, cost and margin of calls that succeeded, and of the time as long before."""
    window, at = question.asked()
    with database.ledger() as ledger:
        found = ledger.billing.gross_margin(
            window, at=at, restated=question.restated, **question.filters
        )
    is_empty = not (_has_any(found) or _has_any(found.previous))
    _show(question, found, found.window, is_empty, [margin_table(found)])


def providers(database: Database, question: BillingQuestion) -> None:
    """What each provider cost, whether calls succeeded or not."""
    window, at = question.asked()
    with database.ledger() as ledger:
        found = ledger.billing.provider_costs(
            window, at=at, restated=question.restated, **question.filters
        )
    _show(question, found, found.window, not found, [provider_cost_table(found)])


def models(database: Database, question: BillingQuestion) -> None:
    """What each model cost, whether calls succeeded or not."""
    window, at = question.asked()
    with database.ledger() as ledger:
        found = ledger.billing.model_costs(
            window, at=at, restated=question.restated, **question.filters
        )
    _show(question, found, found.window, not found, [model_cost_table(found)])


def users(
    database: Database,
    question: BillingQuestion,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
) -> None:
    """The users whose calls cost most."""
    window, at = question.asked()
    with database.ledger() as ledger:
        found = ledger.billing.user_costs(
            window, limit, at=at, restated=question.restated, **question.filters
        )
    _show(question, found, found.window, not found, [user_cost_table(found)])


def trend(database: Database, question: BillingQuestion, timezone: Zone = "UTC") -> None:
    """A chart of the margin of each day, by default of the last 30."""
    window, at = question.asked()
    is_default = question.since is None and question.interval is None
    with database.ledger() as ledger:
        found = ledger.billing.margin_trend(
            None if is_default else window,
            at=at,
            timezone=timezone,
            restated=question.restated,
            **question.filters,
        )
    is_empty = not any(_has_any(day) for day in found)
    lines = [] if is_empty else trend_chart(found, canvas())
    _show(question, found, found.window, is_empty, lines)


def distribution(database: Database, question: BillingQuestion) -> None:
    """How what single calls cost is spread; corrections are no part of it."""
    if question.restated:
        raise typer.BadParameter("--restated says when corrections count, which here they never do")
    window, at = question.asked()
    with database.ledger() as ledger:
        found = ledger.billing.cost_distribution(window, at=at, **question.filters)
    _show(question, found, found.window, found.requests == 0, [distribution_table(found)])
    if found.requests and not question.as_json:
        hint(percentile_bound(found.percentile_error))


def app() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(no_args_is_help=True, help="What calls cost, and the margin that is left.")
    for question in (margin, providers, models, users, trend, distribution):
        group.command()(command(question))
    return group


def _has_any(totals: MarginTotals) -> bool:
    """Whether there is anything to show: corrections are no calls."""
    return bool(totals.requests or totals.revenue_usd or totals.vendor_cost_usd)


def _show(
    question: BillingQuestion,
    answer: Any,  # noqa: ANN401 - a record of any kind, or a list of them
    window: Window,
    is_empty: bool,  # noqa: FBT001 - what that is differs by answer
    parts: Iterable[RenderableType],
) -> None:
    if question.as_json:
        say_json(answer.to_dict())
        return
    heading = f"{moment(window.start)} to {moment(window.end)} UTC"
    if is_empty:
        say(f"No calls were booked: {heading}")
        return
    console = out()
    console.print(heading, style="bold", soft_wrap=True)
    for part in parts:
        # A table knows how to be narrow; a line is left to the terminal.
        console.print(part, soft_wrap=not isinstance(part, Table))
