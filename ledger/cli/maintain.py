"""`ledger maintain` and `reconcile`: keep the books current, see whether they are true."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.progress import Progress
from rich.text import Text

from ledger.cli.billing_reconciliation import reconcile_billing
from ledger.cli.commands import command
from ledger.cli.console import err, out, printable, say, say_json
from ledger.cli.database import Database
from ledger.cli.failures import FOUND_SOMETHING, explanation
from ledger.cli.figures import NONE, count, counted, moment
from ledger.cli.questions import JSON, Since, Until, moment_of, window_between
from ledger.cli.tables import facts
from ledger.queries.scope import ALL_USERS
from ledger.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ledger.maintenance import MaintenanceReport, Reconciliation

DEFAULT_LENGTH = timedelta(days=7)
MOST_DIFFERENCES_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciledTime:
    """The options that say what time to reconcile."""

    since: Since = None
    until: Until = None

    @property
    def window(self) -> Window:
        """By default the last days before --to."""
        if self.since is not None:
            return window_between(self.since, self.until)
        end = datetime.now(UTC) if self.until is None else moment_of(self.until)
        return Window(start=end - DEFAULT_LENGTH, end=end)


def maintain(
    database: Database,
    *,
    forever: Annotated[
        bool, typer.Option("--forever", help="Go on, every minute, until interrupted.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Make partitions, refresh rollups and apply retention; or see that the database does.

    Exits with 1 where something needs a person.
    """
    show = _say_json_line if as_json and forever else _say_json_report if as_json else _say_report
    with database.ledger() as ledger:
        if forever:
            # No handler of signals: killed at any point, it loses and doubles nothing.
            ledger.maintenance.run_forever(on_report=show, on_failure=_say_failure)
        report = ledger.maintenance.run()
    show(report)
    if not report.is_healthy:
        raise typer.Exit(FOUND_SOMETHING)


def reconcile(
    database: Database,
    time: ReconciledTime,
    *,
    user: Annotated[
        UUID | None, typer.Option(metavar="UUID", help="Only this user's; not with --billing.")
    ] = None,
    billing: Annotated[
        bool,
        typer.Option(
            "--billing",
            help="The billing ledger instead: its sums from its rows, each charge from its own"
            " price, and its calls against those of the telemetry ledger.",
        ),
    ] = False,
    as_json: JSON = False,
) -> None:
    """Recompute a window from raw rows and report every difference from the rollups.

    By default the last 7 days. Exits with 1 where there are differences; none is the expected
    answer.
    """
    if billing:
        if user is not None:
            raise typer.BadParameter("sums are of all users; leave out --user or --billing")
        reconcile_billing(database, time.window, as_json=as_json)
        return
    with database.ledger() as ledger, _progress() as on_progress:
        found = ledger.maintenance.reconcile(
            time.window,
            ALL_USERS if user is None else user,
            on_progress=on_progress,
        )
    if as_json:
        say_json(found.to_dict())
    else:
        _say_reconciliation(found)
    if not found.is_clean:
        raise typer.Exit(FOUND_SOMETHING)


def add_to(app: typer.Typer) -> None:
    """Make these commands of the app."""
    for duty in (maintain, reconcile):
        app.command(rich_help_panel="Upkeep")(command(duty))


def _say_report(report: MaintenanceReport) -> None:
    pairs = [
        ("storage", str(report.storage)),
        ("ended at", f"{moment(report.at)} UTC"),
        (
            "rolled up before",
            NONE if report.watermark is None else f"{moment(report.watermark)} UTC",
        ),
        (
            "raw rows kept from",
            "the beginning" if report.raw_from is None else f"{moment(report.raw_from)} UTC",
        ),
    ]
    done = (
        ("partitions made", report.partitions_made),
        ("hours of users still to roll up", report.groups_waiting),
        ("days of raw rows retired", len(report.days_retired)),
        ("minutes deleted", report.minute_rows_deleted),
        ("hours deleted", report.hour_rows_deleted),
    )
    pairs += [(what, count(number)) for what, number in done if number]
    out().print(facts(pairs))
    _say_problems(report)


def _say_json_report(report: MaintenanceReport) -> None:
    say_json(report.to_dict())
    _say_problems(report)


def _say_json_line(report: MaintenanceReport) -> None:
    typer.echo(json.dumps(report.to_dict(), ensure_ascii=False))


def _say_problems(report: MaintenanceReport) -> None:
    for problem in report.problems:
        err().print(Text(problem, style="yellow"), soft_wrap=True)


def _say_failure(failure: Exception) -> None:
    words = f"{explanation(failure)}\nTrying again."
    err().print(Text(words, style="red"), soft_wrap=True)


def _say_reconciliation(found: Reconciliation) -> None:
    if found.compared is None:
        say("Nothing to compare: no hour of the window is rolled up with its raw rows kept.")
        return
    compared = f"{moment(found.compared.start)} to {moment(found.compared.end)} UTC"
    asked = "" if found.is_complete else ", not all that was asked for"
    say(f"Compared {compared}{asked}: {counted(found.requests, 'request')}.")
    if found.groups_left_out:
        say(f"{count(found.groups_left_out)} (hour, user) pairs await a refresh and were left out.")
    for difference in found.differences[:MOST_DIFFERENCES_SHOWN]:
        say(printable(str(difference)))
    if (more := found.differences_found - MOST_DIFFERENCES_SHOWN) > 0:
        say(f"... and {count(more)} more; --json shows up to a thousand.")
    say(
        "The rollups are what their raw rows say."
        if found.is_clean
        else f"{counted(found.differences_found, 'difference')}."
    )


@contextmanager
def _progress() -> Iterator[Callable[[datetime, Window], None]]:
    console = err()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Comparing", total=None)

        def advance(compared_to: datetime, whole: Window) -> None:
            progress.update(
                task,
                total=whole.length.total_seconds(),
                completed=(compared_to - whole.start).total_seconds(),
            )

        yield advance
