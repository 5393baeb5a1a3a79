"""Rolling up what waits, on either storage; another session that is at it is no error."""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, Integer, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.ddl import ExecutableDDLElement

from ledger.maintenance.connection import IsStopped, compile_nothing, outside_transaction

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import DDLCompiler

_ANOTHER_IS_AT_IT: Final = -1
_MOST_CALLS: Final = 1_000
"""A day of hours each: whoever writes late rows faster than this is served by the next run."""

_PATIENCE_S: Final = 60

CONCURRENT_REFRESH: Final = "concurrent refresh"
"""What TimescaleDB says to who comes second; its SQLSTATE is not its own."""


class CallRefresh(ExecutableDDLElement):
    """CALL of the procedure that refreshes the continuous aggregates; it commits on its way."""


@compiles(CallRefresh)
def _call_refresh(_: CallRefresh, __: DDLCompiler, **___: object) -> str:
    return "CALL ledger.refresh_metrics()"


def refresh_rollups(connection: Connection, is_stopped: IsStopped) -> int | None:
    """Plain PostgreSQL: roll up, the oldest hours first, until nothing waits.

    How many (hour, user) pairs still wait; None where another session is rolling them up.
    """
    statement = select(func.ledger.refresh_metrics(type_=Integer))
    waiting = 0
    for _ in range(_MOST_CALLS):
        with connection.begin():
            compile_nothing(connection)
            waiting = connection.execute(statement).scalar_one()
        if waiting == _ANOTHER_IS_AT_IT:
            return None
        if waiting == 0 or is_stopped():
            break
    return waiting


def refresh_aggregates(connection: Connection, is_stopped: IsStopped) -> bool:
    """TimescaleDB: what the job does every minute, now.

    Waits for another that is at it, which may have begun before the latest rows were there:
    after a backfill the job does so at once. False where it takes longer than a minute.
    """
    for _ in range(_PATIENCE_S):
        if _refresh_aggregates(connection):
            return True
        if is_stopped():
            break
        sleep(1)
    return False


def _refresh_aggregates(connection: Connection) -> bool:
    try:
        with outside_transaction(connection):
            connection.execute(CallRefresh())
    except DBAPIError as error:
        if CONCURRENT_REFRESH not in str(error.orig):
            raise
        return False
    return True
