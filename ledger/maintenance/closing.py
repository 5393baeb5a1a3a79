"""Closing a day of raw rows: all of it rolled up, and the horizon moved past it, for good."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, exists, func, select, update
from sqlalchemy.exc import DBAPIError

from ledger.ddl.rollup_refresh import REFRESH_LOCK
from ledger.maintenance.connection import IsStopped, wait_for_locks_at_most
from ledger.maintenance.detaching import LockAgainstWriters
from ledger.maintenance.partitions import Partition
from ledger.maintenance.refresh import refresh_rollups
from ledger.maintenance.standing import progress_is_of_series
from ledger.models.base import SCHEMA
from ledger.models.installation import RollupProgress
from ledger.models.telemetry import TOUCHED
from ledger.queries.query import AnySelect

_ATTEMPTS: Final = 3
_LOCK_LIMIT: Final = timedelta(seconds=1)
"""How long new writers of that day may have to stand behind us, who wait for the open ones."""

_LOCK_NOT_AVAILABLE: Final = "55P03"
_NO_SUCH_TABLE: Final = "42P01"


def is_closed(connection: Connection, partition: Partition) -> bool:
    """Whether the horizon that is written down lies past the day."""
    with connection.begin():
        return bool(connection.execute(_is_past(partition)).scalar_one())


def close_day(connection: Connection, partition: Partition, is_stopped: IsStopped) -> str | None:
    """Close the day; what stands in the way, or None where it is closed."""
    for _ in range(_ATTEMPTS):
        try:
            if _try_to_close(connection, partition):
                return None
        except DBAPIError as error:
            sqlstate = getattr(error.orig, "sqlstate", None)
            if sqlstate == _NO_SUCH_TABLE:
                return None  # another maintainer has retired it
            if sqlstate != _LOCK_NOT_AVAILABLE:
                raise
        refresh_rollups(connection, is_stopped)
    return (
        f"the day of {SCHEMA}.{partition.name} could not be closed, as rows of it are still being"
        " written or rolled up by others; the next run tries again"
    )


def _try_to_close(connection: Connection, partition: Partition) -> bool:
    waits = exists().where(
        TOUCHED.c.hour >= RollupProgress.raw_from, TOUCHED.c.hour < partition.end
    )
    move = (
        update(RollupProgress)
        .where(
            progress_is_of_series(),
            RollupProgress.raw_from < partition.end,
            RollupProgress.watermark >= partition.end,
            ~waits,
        )
        .values(raw_from=partition.end)
    )
    with connection.begin():
        wait_for_locks_at_most(connection, _LOCK_LIMIT)
        # No refresh may be under way that still believes in the old horizon: it would rebuild
        # the day's hours while the detach takes the rows from under it.
        connection.execute(select(func.pg_advisory_xact_lock(REFRESH_LOCK)))
        # And no writer between the look into the log and the new horizon.
        connection.execute(LockAgainstWriters(partition.name))
        connection.execute(move)
        return bool(connection.execute(_is_past(partition)).scalar_one())


def _is_past(partition: Partition) -> AnySelect:
    return select(RollupProgress.raw_from >= partition.end).where(progress_is_of_series())
