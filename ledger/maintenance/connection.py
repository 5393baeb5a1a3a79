"""How maintenance holds its connection: no state of a session, so that a pooler may stand between.

Every piece of work is its own transaction, and what may take long can be interrupted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import psycopg
from sqlalchemy import func, literal, select

from ledger.errors import InvalidArgument

if TYPE_CHECKING:
    from sqlalchemy import Connection

IsStopped: TypeAlias = Callable[[], bool]

_LOOK_EVERY_SECONDS = 0.05


def never() -> bool:
    """What stops a run that nothing stops."""
    return False


def each_statement_sees_the_latest(connection: Connection) -> None:
    """Use READ COMMITTED, whatever the database's default.

    Maintenance takes a lock and then looks; with the snapshot of the transaction's beginning
    it would see what was before it got the lock.
    """
    connection.execution_options(isolation_level="READ COMMITTED")


@contextmanager
def outside_transaction(connection: Connection) -> Iterator[None]:
    """For what PostgreSQL refuses in a transaction: a CALL that commits, DETACH CONCURRENTLY."""
    connection.execution_options(isolation_level="AUTOCOMMIT")
    try:
        with connection.begin():
            yield
    finally:
        if not connection.invalidated:
            each_statement_sees_the_latest(connection)


@contextmanager
def interrupted_when(connection: Connection, is_due: IsStopped) -> Iterator[None]:
    """Cancel whatever statement runs on the connection once ``is_due``; it fails with 57014.

    By a thread, as a connection that waits cannot watch; and not by lock_timeout, as SET LOCAL
    needs a transaction and SET reaches, behind PgBouncer, somebody else's statements.
    """
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection | psycopg.AsyncConnection):
        raise InvalidArgument(f"maintenance runs on psycopg 3, not on {type(driver).__module__}")
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_LOOK_EVERY_SECONDS):
            if is_due():
                # Again and again: between two statements there is nothing to cancel.
                with suppress(psycopg.Error):
                    driver.cancel()

    watcher = threading.Thread(target=watch, name="ledger-maintenance-interrupt", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        # Joined, or a late cancel would meet the connection's next statement.
        is_over.set()
        watcher.join()


@contextmanager
def interrupted_after(connection: Connection, limit: timedelta) -> Iterator[None]:
    """Cancel a statement that takes longer than ``limit``; it fails with SQLSTATE 57014."""
    deadline = time.monotonic() + limit.total_seconds()
    with interrupted_when(connection, lambda: time.monotonic() > deadline):
        yield


def compile_nothing(connection: Connection) -> None:
    """Turn JIT off for this transaction.

    Sums of 135 bins take it 2 s, where the rest of the statement takes 20 ms, and the estimates
    for columnstore chunks call it in for a few rows.
    """
    _set_locally(connection, "jit", "off")


def plan_for_all_rows(connection: Connection) -> None:
    """Have cursors of this transaction planned for all their rows, not for the first tenth."""
    _set_locally(connection, "cursor_tuple_fraction", "1")


def wait_for_locks_at_most(connection: Connection, limit: timedelta) -> None:
    """Set lock_timeout for this transaction alone."""
    _set_locally(connection, "lock_timeout", f"{limit / timedelta(milliseconds=1):.0f}ms")


def _set_locally(connection: Connection, setting: str, value: str) -> None:
    connection.execute(select(func.set_config(setting, value, literal(value=True))))
