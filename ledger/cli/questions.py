"""Whose requests a command asks about, and when they were made: options of every question."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Annotated
from uuid import UUID

import typer

from ledger.queries.scope import ALL_USERS, AllUsers
from ledger.window import Interval, Window

_WHOSE = "Whose requests"
_WHEN = "When; an ISO 8601 time without an offset is UTC"

JSON = Annotated[bool, typer.Option("--json", help="Print JSON, exact, for programs.")]
Since = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", rich_help_panel=_WHEN, help="The first moment."),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="TIME",
        rich_help_panel=_WHEN,
        help="The end, not included. By default now.",
    ),
]


def moment_of(words: str, zone: tzinfo = UTC) -> datetime:
    """An aware datetime from ISO 8601; without an offset it is a time of ``zone``.

    Raises typer.BadParameter where it cannot be read.
    """
    try:
        read = datetime.fromisoformat(words)
        read = read if read.tzinfo is not None else read.replace(tzinfo=zone)
        read.astimezone(UTC)  # of which the years 1 and 9999 may be the last
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{words!r} is not a time; write it as 2026-11-20, 2026-11-20T14:30 or"
            " 2026-11-20T14:30+01:00"
        ) from None
    return read


def window_between(since: str, until: str | None, zone: tzinfo = UTC) -> Window:
    """The window of --from and --to. Raises InvalidArgument where it ends before it starts."""
    return Window(
        start=moment_of(since, zone),
        end=datetime.now(UTC) if until is None else moment_of(until, zone),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The options that every question about telemetry takes."""

    user: Annotated[
        UUID | None,
        typer.Option(metavar="UUID", rich_help_panel=_WHOSE, help="This user's."),
    ] = None
    all_users: Annotated[
        bool, typer.Option("--all-users", rich_help_panel=_WHOSE, help="Everybody's.")
    ] = False
    provider: Annotated[
        str | None, typer.Option(rich_help_panel=_WHOSE, help="Only those to this provider.")
    ] = None
    model: Annotated[
        str | None, typer.Option(rich_help_panel=_WHOSE, help="Only those to this model.")
    ] = None
    interval: Annotated[
        Interval | None,
        typer.Option(
            case_sensitive=False,
            rich_help_panel=_WHEN,
            help="So long before --to. By default 1D.",
        ),
    ] = None
    since: Since = None
    until: Until = None
    as_json: JSON = False

    @property
    def scope(self) -> UUID | AllUsers:
        """Whose requests. Raises typer.BadParameter unless exactly one way of saying it is used."""
        if self.all_users == (self.user is not None):
            raise typer.BadParameter("say whose requests: either --user UUID or --all-users")
        return ALL_USERS if self.user is None else self.user

    def asked(
        self, zone: tzinfo = UTC
    ) -> tuple[UUID | AllUsers, Interval | Window, datetime | None]:
        """Whose requests; in which interval or window; and when an interval ends, None is now.

        Raises typer.BadParameter where the options say nothing, or two things.
        """
        if self.since is None:
            at = None if self.until is None else moment_of(self.until, zone)
            return self.scope, self.interval or Interval.DAY, at
        if self.interval is not None:
            raise typer.BadParameter("say either --interval or --from, not both")
        return self.scope, window_between(self.since, self.until, zone), None
