"""Which database a command works on: by URL, in a folder, or the environment's."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.cli.console import busy
from ledger.embedded import EmbeddedPostgres
from ledger.engine import engine, translated_errors
from ledger.repositories.ledger import Ledger
from ledger.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

_PANEL = "Database, before or after the command's name"
_OPENING = "Opening the embedded PostgreSQL"

DatabaseURL = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        rich_help_panel=_PANEL,
        help="postgresql://user:password@host/name. By default LEDGER_DATABASE_URL,"
        " LEDGER_PG_CONNECTION_STRING or DATABASE_URL, from the environment or .env.",
    ),
]
EmbeddedFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        rich_help_panel=_PANEL,
        help="A PostgreSQL in this folder, made on first use, in place of a server.",
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        envvar="LEDGER_DEBUG",
        rich_help_panel=_PANEL,
        help="Show the traceback of an error.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The options that name a database."""

    database_url: DatabaseURL = None
    embedded: EmbeddedFolder = None
    debug: Debug = False

    def overridden_by(self, later: Database) -> Database:
        """These options, and where they are given again the ``later`` ones."""
        return Database(
            database_url=later.database_url or self.database_url,
            embedded=later.embedded or self.embedded,
            debug=later.debug or self.debug,
        )

    def unambiguous(self) -> Database:
        """The same. Raises typer.BadParameter where both a URL and a folder are named."""
        if self.database_url is not None and self.embedded is not None:
            raise typer.BadParameter("name one of --database-url and --embedded, not both")
        return self

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The ledger there. One in a folder is brought to the newest schema first."""
        if self.embedded is not None:
            with busy(_OPENING):
                ledger = Ledger.embedded(self.embedded)
        elif self.database_url is not None:
            ledger = Ledger.connect(self.database_url)
        else:
            ledger = Ledger.from_environment()
        with ledger:
            yield ledger

    @contextmanager
    def url(self) -> Iterator[str]:
        """The database's URL, answered for as long as this lasts; nothing is migrated.

        The environment's LEDGER_MIGRATION_URL goes before its others, as it leads past a
        pooler that administration cannot go through.
        """
        if self.embedded is not None:
            with busy(_OPENING):
                server = EmbeddedPostgres.start(self.embedded)
            with server:
                yield server.url
        elif self.database_url is not None:
            yield self.database_url
        else:
            settings = Settings.load()
            around = settings.migration_url
            yield around.get_secret_value() if around else settings.require_database_url()

    @contextmanager
    def administration(self) -> Iterator[Connection]:
        """A transaction of the owner's, committed at the end."""
        with self.url() as url, connection_to(url) as connection:
            yield connection


@contextmanager
def connection_to(url: str) -> Iterator[Connection]:
    """A transaction on the database at ``url``, committed at the end."""
    owners = engine(url)
    try:
        with translated_errors(), owners.begin() as connection:
            yield connection
    finally:
        owners.dispose()
