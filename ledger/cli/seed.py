"""`ledger seed`: fill a database with calls that look like a real application's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ledger.cli.commands import command
from ledger.cli.console import err, hint, printable, say, say_json
from ledger.cli.database import Database
from ledger.cli.failures import FOUND_SOMETHING
from ledger.cli.figures import count, counted
from ledger.cli.questions import JSON, moment_of
from ledger.cli.seed_billing import introduce, usage_of
from ledger.cli.seeding import generate, invented_users

if TYPE_CHECKING:
    from ledger.records.report import WriteReport
    from ledger.records.transaction import Transaction
    from ledger.repositories.ledger import Ledger

Item = TypeVar("Item")

USERS = 12
ROWS_BETWEEN_UPDATES = 500
REASONS_SHOWN = 3


def seed(  # noqa: PLR0913 - options
    database: Database,
    *,
    rows: Annotated[int, typer.Option(min=0, help="How many calls.")] = 5_000,
    user: Annotated[
        list[UUID] | None,
        typer.Option(
            metavar="UUID",
            help="Who calls, the first most of all. Repeatable. By default"
            f" {USERS} invented users.",
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Over how many days.")] = 7,
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="When the last day ends. By default now.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed and end give the same calls.")] = 1,
    bill: Annotated[
        bool,
        typer.Option(
            "--bill", help="Book the same calls, too: with users, tiers, projects and prices."
        ),
    ] = False,
    as_json: JSON = False,
) -> None:
    """Record realistic calls: models, latencies, costs, a daily rhythm, bursts of errors.

    Running it again with the same --seed and --end adds nothing. Exits with 1 where calls were
    rejected, as those beyond the retention of raw rows are.
    """
    users = user or invented_users(USERS, seed=seed)
    last = datetime.now(UTC) if end is None else moment_of(end)

    def calls() -> Iterator[Transaction]:
        return generate(rows, seed=seed, end=last, days=days, users=users)

    with database.ledger() as ledger:
        report = ledger.telemetry.insert_transactions(_with_progress("Recording", calls(), rows))
        booked = _book(ledger, users, last, calls, rows) if bill else None
    if as_json:
        told = {} if booked is None else {"booked": booked.to_dict()}
        say_json({**report.to_dict(), **told, "users": [str(caller) for caller in users]})
    else:
        _say_report("Recorded", report)
        if booked is not None:
            _say_report("Booked", booked)
        hint(f"Next: ledger overview --interval 7D --user {users[0]}")
    if report.rejected_count or (booked is not None and booked.rejected_count):
        raise typer.Exit(FOUND_SOMETHING)


def _book(
    ledger: Ledger,
    users: Sequence[UUID],
    last: datetime,
    calls: Callable[[], Iterator[Transaction]],
    rows: int,
) -> WriteReport:
    introduce(ledger, users, {call.project_id for call in calls() if call.project_id}, last)
    usages = (usage_of(call) for call in calls())
    return ledger.billing.record_usages(_with_progress("Booking", usages, rows))


def _say_report(done: str, report: WriteReport) -> None:
    words = f"{done} {counted(report.inserted, 'call')}"
    if report.duplicates:
        words += f"; {count(report.duplicates)} were there already"
    say(f"{words}.")
    if report.rejected_count:
        say(f"{count(report.rejected_count)} were rejected, the first of them because:")
        for rejected in report.rejected[:REASONS_SHOWN]:
            say(f"  {printable(rejected.reason)}")


def _with_progress(doing: str, calls: Iterable[Item], rows: int) -> Iterator[Item]:
    console = err()
    if not console.is_terminal:
        yield from calls
        return
    columns = (
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=rows)
        for number, call in enumerate(calls, start=1):
            yield call
            if number % ROWS_BETWEEN_UPDATES == 0:
                progress.update(task, completed=number)


def add_to(app: typer.Typer) -> None:
    """Make this a command of the app."""
    app.command(rich_help_panel="Upkeep")(command(seed))
