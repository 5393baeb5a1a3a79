"""`ledger audit`: what agents did and what it cost, and that nobody has changed it since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from ledger.cli.audit_proofs import checkpoint, make_key, prove, verify
from ledger.cli.audit_tables import agent_table, project_tables, runs_table
from ledger.cli.commands import command
from ledger.cli.console import hint, out, printable, say, say_json
from ledger.cli.database import Database
from ledger.cli.failures import FOUND_SOMETHING
from ledger.cli.figures import moment, percentile_bound
from ledger.cli.questions import JSON, Since, Until, window_between

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from ledger.window import Window

RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run.")]
Project = Annotated[
    UUID | None, typer.Option(metavar="UUID", help="Only this project's. By default all.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """When the runs ended; by default ever."""

    since: Since = None
    until: Until = None
    as_json: JSON = False

    @property
    def window(self) -> Window | None:
        """The window that the options name. Raises typer.BadParameter for an end alone."""
        if self.since is None:
            if self.until is not None:
                raise typer.BadParameter("--to needs a --from")
            return None
        return window_between(self.since, self.until)


def show(database: Database, run_id: RunId) -> None:
    """Show one run as it is recorded, as JSON."""
    with database.ledger() as ledger:
        found = ledger.audit.execution(run_id)
    if found is None:
        say(f"No run {run_id!r} is recorded.")
        raise typer.Exit(FOUND_SOMETHING)
    say_json(found.to_dict())


def agent(
    database: Database,
    when: When,
    agent_id: Annotated[str, typer.Argument(metavar="AGENT_ID", help="The agent.")],
    project: Project = None,
) -> None:
    """What the runs of an agent cost."""
    with database.ledger() as ledger:
        found = ledger.audit.agent_cost_statistics(agent_id, project, when.window)
    if when.as_json:
        say_json(found.to_dict())
    else:
        _print(_heading(f"Agent {agent_id}", found.window), [agent_table(found)])
        if found.count:
            hint(percentile_bound(found.percentile_error))


def project_runs(
    database: Database,
    when: When,
    project: Annotated[UUID, typer.Argument(metavar="PROJECT", help="The project's id.")],
) -> None:
    """How the runs of a project ended, and what each agent cost."""
    with database.ledger() as ledger:
        found = ledger.audit.project_execution_statistics(project, when.window)
    if when.as_json:
        say_json(found.to_dict())
    else:
        _print(_heading(f"Project {project}", found.window), project_tables(found))


def failed(
    database: Database,
    project: Project = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 20,
    *,
    as_json: JSON = False,
) -> None:
    """The runs that failed or were aborted, the newest first."""
    with database.ledger() as ledger:
        found = ledger.audit.failed_executions(project, limit=limit)
    if as_json:
        say_json([run.to_dict() for run in found])
    elif not found:
        say("No run failed or was aborted.")
    else:
        _print("Failed and aborted runs, times in UTC", [runs_table(found)])


def erase(
    database: Database,
    run_id: RunId,
    reason: Annotated[str, typer.Option(help="Why; it is kept beside the run.")],
) -> None:
    """Erase what a run was asked and what it did; its cost and its place in the chain stay."""
    with database.ledger() as ledger:
        found = ledger.audit.erase_payload(run_id, reason)
    said = f"Run {run_id} was erased at {moment(found.erased_at)} UTC: {found.reason}"
    say(printable(said))


def app() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(
        no_args_is_help=True, help="What agents did, and proof that it is as it was recorded."
    )
    for verb in (show, agent, failed, verify, checkpoint, prove, erase):
        group.command()(command(verb))
    group.command("project")(command(project_runs))
    group.command("new-key")(make_key)
    return group


def _heading(whose: str, window: Window | None) -> str:
    if window is None:
        return f"{whose}, all times"
    return f"{whose}, {moment(window.start)} to {moment(window.end)} UTC"


def _print(heading: str, parts: Iterable[RenderableType]) -> None:
    console = out()
    console.print(heading, style="bold", soft_wrap=True)
    for part in parts:
        console.print(part)
