"""Which booked calls a command asks about: options of every question to the billing ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from ledger.cli.questions import JSON, Since, Until, moment_of, window_between
from ledger.window import Interval, Window

_WHICH = "Which calls"
_WHEN = "When; an ISO 8601 time without an offset is UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingQuestion:
    """The options that every question about billing takes."""

    provider: Annotated[
        str | None, typer.Option(rich_help_panel=_WHICH, help="Only those to this provider.")
    ] = None
    model: Annotated[
        str | None, typer.Option(rich_help_panel=_WHICH, help="Only those to this model.")
    ] = None
    user: Annotated[
        UUID | None, typer.Option(metavar="UUID", rich_help_panel=_WHICH, help="Only this user's.")
    ] = None
    tier: Annotated[
        str | None, typer.Option(rich_help_panel=_WHICH, help="Only those booked in this tier.")
    ] = None
    project: Annotated[
        UUID | None, typer.Option(metavar="UUID", rich_help_panel=_WHICH, help="Only for this one.")
    ] = None
    status: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_WHICH,
            help="Only those that are success, failed or cancelled; all has every one.",
        ),
    ] = None
    restated: Annotated[
        bool,
        typer.Option(
            "--restated",
            rich_help_panel=_WHICH,
            help="Count a correction when the call was made that it corrects.",
        ),
    ] = False
    interval: Annotated[
        Interval | None,
        typer.Option(
            case_sensitive=False, rich_help_panel=_WHEN, help="So long before --to. By default 7D."
        ),
    ] = None
    since: Since = None
    until: Until = None
    as_json: JSON = False

    @property
    def filters(self) -> dict[str, Any]:
        """Which calls, as the repository is asked."""
        status = None if self.status == "all" else self.status
        return {
            "provider": self.provider,
            "model": self.model,
            "user_id": self.user,
            "tier": self.tier,
            "project_id": self.project,
            # Else as the question has it by default: some are of success alone.
            **({} if self.status is None else {"status": status}),
        }

    def asked(self) -> tuple[Interval | Window, datetime | None]:
        """In which interval or window; and when an interval ends, None is now.

        Raises typer.BadParameter where the options say two things.
        """
        if self.since is None:
            at = None if self.until is None else moment_of(self.until)
            return self.interval or Interval.WEEK, at
        if self.interval is not None:
            raise typer.BadParameter("say either --interval or --from, not both")
        return window_between(self.since, self.until), None
