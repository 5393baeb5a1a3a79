"""Around a deploy: one at a time, its session's settings, and how its failure is told."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from alembic.util.exc import CommandError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ledger.engine import translated_errors
from ledger.errors import LedgerError, MigrationFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.runtime.environment import EnvironmentContext
    from sqlalchemy import Connection
    from sqlalchemy.exc import DBAPIError

MIGRATION_LOCK = 5_202_611_210_002
"""Key of the advisory lock that one deploy holds while it migrates."""

_LOCK_PATIENCE_SECONDS = 900
_IN_THE_WAY = {"55P03", "40P01"}
"""A lock that was not to be had in time, and a deadlock, of which this was the victim."""


@contextmanager
def session_settings(connection: Connection, settings: dict[str, str]) -> Iterator[None]:
    """Change the session's settings, and change them back: the connection may be a caller's."""
    change = text("SELECT pg_catalog.set_config(:name, :value, false)")

    def set_all(values: dict[str, str]) -> None:
        for name, value in values.items():
            connection.execute(change, {"name": name, "value": value})
        connection.commit()

    current = text("SELECT pg_catalog.current_setting(:name)")
    before = {name: connection.scalar(current, {"name": name}) or "" for name in settings}
    set_all(settings)
    try:
        yield
    finally:
        with suppress(SQLAlchemyError):  # a lost connection takes its settings along
            connection.rollback()
            set_all(before)


@contextmanager
def only_one_deploy(connection: Connection) -> Iterator[None]:
    """Hold the migration lock, for the connection's session.

    Polled, because a session that waits in pg_advisory_lock holds a snapshot that a concurrent
    index build waits for: a deadlock. Raises MigrationFailed after a quarter of an hour.
    """
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while not connection.scalar(text(f"SELECT pg_catalog.pg_try_advisory_lock({MIGRATION_LOCK})")):
        connection.commit()
        if time.monotonic() > deadline:
            raise MigrationFailed(
                "another deploy has been migrating this database for a quarter of an hour;"
                " see who holds the advisory lock in pg_locks, and try again"
            )
        time.sleep(0.2)
    connection.commit()
    try:
        yield
    finally:
        # A pool keeps the session, and so the lock; a lost connection has lost it too.
        with suppress(SQLAlchemyError):
            connection.rollback()
            connection.execute(text(f"SELECT pg_catalog.pg_advisory_unlock({MIGRATION_LOCK})"))
            connection.commit()


def is_in_the_way(error: DBAPIError) -> bool:
    """Whether a statement waited in vain for a lock that somebody else had."""
    codes = (getattr(error.orig, name, None) for name in ("sqlstate", "pgcode"))
    return not _IN_THE_WAY.isdisjoint(codes)


@contextmanager
def told_in_a_line(context: EnvironmentContext) -> Iterator[None]:
    """Have alembic's own command line say an error of ours in a line, as it does its own."""
    try:
        with translated_errors():
            yield
    except LedgerError as error:
        if context.config.cmd_opts is None:
            raise
        raise CommandError(str(error)) from error
