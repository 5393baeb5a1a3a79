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
            " nothing; a service, the application, does both and sees all; an auditor sees all, or"
            " the runs of its projects and nothing else.",
        ),
    ],
    user: Annotated[
        list[UUID] | None,
        typer.Option(metavar="UUID", help="Whose rows a reader sees. Repeatable."),
    ] = None,
    project: Annotated[
        list[UUID] | None,
        typer.Option(metavar="UUID", help="Which project's runs an auditor sees. Repeatable."),
    ] = None,
) -> None:
    """Let a database role see or do what its kind may."""
    users, projects = user or [], project or []
    with database.administration() as connection:
        access.grant(connection, role, kind.value, users, projects=projects)
    whose = f" of {counted(len(users), 'user')}" if users else ""
    whose += f" of {counted(len(projects), 'project')}" if projects else ""
    say(f"{role} is {'an' if kind is Kind.AUDITOR else 'a'} {kind}{whose} now.")


def revoke(database: Database, role: RoleName) -> None:
    """Take everything in the ledger away from a database role."""
    with database.administration() as connection:
        access.revoke(connection, role)
    say(f"{role} sees nothing of the ledger any more.")
