"""Retention of raw rows on plain PostgreSQL: whole days, exact beside writers, readers and kills.

A day is closed: rolled up to its last row, and the horizon moved past it, so that no refresh
rebuilds its hours from then on. It is detached without stopping anybody. Then `retire_day` rolls
up what still came in between, and drops it. Each step is committed by itself and begins with
what is there, so that any run goes on where another was killed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from ledger.maintenance.closing import close_day, is_closed
from ledger.maintenance.connection import (
    IsStopped,
    compile_nothing,
    interrupted_after,
    outside_transaction,
    wait_for_locks_at_most,
)
from ledger.maintenance.detaching import DetachConcurrently, FinalizeDetach
from ledger.maintenance.holdups import longest_transaction
from ledger.maintenance.partitions import Attachment, Partition, partitions
from ledger.models.base import SCHEMA
from ledger.models.telemetry import TOUCHED
from ledger.queries.opening import SOURCE

_DETACH_LIMIT: Final = timedelta(seconds=5)
"""A detach waits for every transaction that uses the table, and holds nothing meanwhile."""
_FINALIZE_LIMIT: Final = timedelta(milliseconds=500)
"""Finalising waits with the day locked: shorter than deadlock_timeout, so that it is never a
reader with an old snapshot that is ended for it."""

_GIVEN_UP: Final = frozenset({"57014", "55P03"})
_ANOTHER_WAS_FASTER: Final = frozenset({"55000", "42P01"})


@dataclass(slots=True, kw_only=True)
class Retirement:
    """Which days went, and what kept others."""

    days: list[date] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def retire_days(
    connection: Connection, before: datetime | None, is_stopped: IsStopped
) -> Retirement:
    """Remove the days that end at or before that moment, and finish what a killed run left."""
    retirement = Retirement()
    for partition in partitions(connection):
        if is_stopped():
            break
        if partition.attachment is Attachment.ATTACHED:
            if before is None or partition.end > before:
                continue
            if obstacle := close_day(connection, partition, is_stopped):
                retirement.problems.append(obstacle)
                break  # the horizon must not jump over a day that is open
        elif not is_closed(connection, partition):
            retirement.problems.append(_detached_by_somebody(partition))
            continue
        match _detached(connection, partition):
            case Attachment.DETACHED:
                if _roll_up_and_drop(connection, partition):
                    retirement.days.append(partition.day)
            case None:
                pass  # another maintainer has retired it meanwhile
            case _:
                retirement.problems.append(
                    f"{SCHEMA}.{partition.name} could not be detached, as"
                    f" {longest_transaction(connection)}; once that has ended, the next run goes on"
                )
                break  # only one detach may be pending
    return retirement


def _detached(connection: Connection, partition: Partition) -> Attachment | None:
    """Detach the day, or go on where a detach was cut short; how it stands then."""
    try:
        match partition.attachment:
            case Attachment.ATTACHED:
                with interrupted_after(connection, _DETACH_LIMIT), outside_transaction(connection):
                    connection.execute(DetachConcurrently(partition.name))
            case Attachment.DETACHING:
                with connection.begin():
                    wait_for_locks_at_most(connection, _FINALIZE_LIMIT)
                    connection.execute(FinalizeDetach(partition.name))
            case Attachment.DETACHED:
                pass
    except DBAPIError as error:
        _raise_unless(error, _GIVEN_UP | _ANOTHER_WAS_FASTER)
    standing = {other.day: other.attachment for other in partitions(connection)}
    return standing.get(partition.day)


def _roll_up_and_drop(connection: Connection, partition: Partition) -> bool:
    """The last step; False where another maintainer has done it."""
    try:
        with connection.begin():
            compile_nothing(connection)
            connection.execute(select(func.ledger.retire_day(partition.name)))
    except DBAPIError as error:
        _raise_unless(error, _ANOTHER_WAS_FASTER)
        return False
    return True


def _raise_unless(error: DBAPIError, sqlstates: frozenset[str]) -> None:
    if getattr(error.orig, "sqlstate", None) not in sqlstates:
        raise error


def _detached_by_somebody(partition: Partition) -> str:
    table, start, end = f"{SCHEMA}.{partition.name}", partition.start, partition.end
    hours = f"SELECT DISTINCT date_trunc('hour', \"timestamp\", 'UTC'), user_id FROM {table}"  # noqa: S608
    return (
        f"{table} was detached by somebody else, so that the rollups may have lost its rows;"
        f" attach it again: ALTER TABLE {SCHEMA}.{SOURCE} ATTACH PARTITION {table}"
        f" FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}');"
        f" INSERT INTO {SCHEMA}.{TOUCHED.name} (hour, user_id) {hours}"
    )
