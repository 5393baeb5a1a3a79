"""`ledger db grant` and `revoke`: what a database role may see and do."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import typer

from ledger.cli.console import say
from ledger.cli.database import Database
from ledger.cli.figures import counted
from ledger.ddl import access

RoleName = Annotated[str, typer.Argument(metavar="ROLE", help="A database role that exists.")]


class Kind(StrEnum):
    """What a role is for."""

    READER = "reader"
    WRITER = "writer"
    SERVICE = "service"
    AUDITOR = "auditor"


def grant(
    database: Database,
    role: RoleName,
    kind: Annotated[
        Kind,
        typer.Option(
            "--as",
            help="A reader sees its users' rows through the views; a writer inserts and sees"
            " nothing; a service, the application, does both and sees all; an auditor sees all.",
        ),
    ],
    user: Annotated[
        list[UUID] | None,
        typer.Option(metavar="UUID", help="Whose rows a reader sees. Repeatable."),
    ] = None,
) -> None:
    """Let a database role see or do what its kind may."""
    users = user or []
    with database.administration() as connection:
        access.grant(connection, role, kind.value, users)
    whose = f" of {counted(len(users), 'user')}" if users else ""
    say(
        f"{role} is a {kind}{whose} now."
        if kind is not Kind.AUDITOR
        else f"{role} is an auditor now."
    )


def revoke(database: Database, role: RoleName) -> None:
    """Take everything in the ledger away from a database role."""
    with database.administration() as connection:
        access.revoke(connection, role)
    say(f"{role} sees nothing of the ledger any more.")
