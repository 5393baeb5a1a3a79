"""The database of an embedded ledger: started, migrated, and open to the role that made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ledger.ddl import access, migrate
from ledger.embedded import EmbeddedPostgres
from ledger.engine import engine, translated_errors

if TYPE_CHECKING:
    from contextlib import ExitStack


def serve(folder: Path | str, closing: ExitStack) -> str:
    """The URL of the folder's database, ready for use until ``closing`` closes."""
    server = EmbeddedPostgres.start(folder)
    closing.callback(server.stop)
    migrate.upgrade(server.url)
    # A superuser passes every policy, and yet sees nothing through scoped views.
    opened = engine(server.url)
    try:
        with translated_errors(), opened.begin() as connection:
            access.grant(connection, str(opened.url.username), "service")
    finally:
        opened.dispose()
    return server.url
