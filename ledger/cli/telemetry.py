"""`ledger overview`, `latency`, `costs`, `errors` and `time-series`: what was asked of models."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ledger.cli.commands import command
from ledger.cli.console import canvas, hint, out, say, say_json
from ledger.cli.database import Database
from ledger.cli.durations import parsed
from ledger.cli.figures import heading, percentile_bound
from ledger.cli.questions import Question
from ledger.cli.series import drawn
from ledger.cli.tables import cost_table, error_table, latency_table, overview_table
from ledger.window import zone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from ledger.records.telemetry import Answer, Overview


def overview(database: Database, question: Question) -> None:
    """Requests, errors, latency, tokens and cost in one look."""
    scope, interval, at = question.asked()
    with database.ledger() as ledger:
        answer = ledger.telemetry.overview(
            scope, interval, at=at, provider=question.provider, model=question.model
        )
    _show(question, answer, answer.requests == 0, [overview_table(answer)])
    _hint_at_percentiles(question, answer)


def latency(database: Database, question: Question) -> None:
    """How long each model took: average and percentiles."""
    scope, interval, at = question.asked()
    with database.ledger() as ledger:
        answer = ledger.telemetry.provider_model_latency(
            scope, interval, at=at, provider=question.provider, model=question.model
        )
    _show(question, answer, not answer, [latency_table(answer)])
    _hint_at_percentiles(question, answer)


def costs(
    database: Database,
    question: Question,
    timezone: Annotated[
        str,
        typer.Option(
            metavar="ZONE",
            help="Whose days, an IANA name such as Europe/Berlin. Times of --from and --to"
            " without an offset are read in it.",
        ),
    ] = "UTC",
) -> None:
    """What each model cost on each day."""
    scope, interval, at = question.asked(zone(timezone))
    with database.ledger() as ledger:
        answer = ledger.telemetry.daily_model_cost(
            scope,
            interval,
            at=at,
            provider=question.provider,
            model=question.model,
            timezone=timezone,
        )
    _show(question, answer, not answer, [cost_table(answer, timezone)])


def errors(database: Database, question: Question) -> None:
    """How often each model failed, and how often it was for a rate limit."""
    scope, interval, at = question.asked()
    with database.ledger() as ledger:
        answer = ledger.telemetry.error_rate(
            scope, interval, at=at, provider=question.provider, model=question.model
        )
    _show(question, answer, not answer, [error_table(answer)])


def time_series(
    database: Database,
    question: Question,
    bucket: Annotated[
        timedelta | None,
        typer.Option(
            parser=parsed,
            metavar="DURATION",
            help="How long each step is: 5m, 1h, 1d. By default what suits the window.",
        ),
    ] = None,
) -> None:
    """A chart of requests and errors over time, with latency and cost below."""
    scope, interval, at = question.asked()
    with database.ledger() as ledger:
        answer = ledger.telemetry.time_series(
            scope,
            interval,
            at=at,
            provider=question.provider,
            model=question.model,
            bucket=bucket,
        )
    is_empty = not any(step.requests for step in answer)
    lines = [] if is_empty else drawn(answer, canvas())
    _show(question, answer, is_empty, lines)
    _hint_at_percentiles(question, answer)


def add_to(app: typer.Typer) -> None:
    """Make these commands of the app."""
    for question in (overview, latency, costs, errors, time_series):
        app.command(rich_help_panel="Questions")(command(question))


def _show(
    question: Question,
    answer: Overview | Answer[Any],
    is_empty: bool,  # noqa: FBT001 - what that is differs by answer
    parts: Iterable[RenderableType],
) -> None:
    if question.as_json:
        say_json(answer.to_dict())
        return
    if is_empty:
        say(f"No requests: {heading(answer.window, question.scope)}")
        return
    console = out()
    console.print(heading(answer.window, question.scope), style="bold", soft_wrap=True)
    for part in parts:
        # A table knows how to be narrow; a line is left to the terminal.
        console.print(part, soft_wrap=not isinstance(part, Table))
    if not answer.is_exact:
        hint("Raw rows of the edges are gone; whole hours were summed there.")


def _hint_at_percentiles(question: Question, answer: Overview | Answer[Any]) -> None:
    if answer.percentile_error and not question.as_json:
        hint(percentile_bound(answer.percentile_error))
