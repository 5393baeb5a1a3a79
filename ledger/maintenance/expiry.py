"""Retention of rollup rows on plain PostgreSQL: deleted by whole buckets, some at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, Interval, cast, delete, func, literal, select

from ledger.maintenance.buckets import bucket_of
from ledger.maintenance.connection import IsStopped
from ledger.models.telemetry import HOUR_ROLLUP, MINUTE_ROLLUP, materialized, rollup
from ledger.settings import Percentiles, Storage
from ledger.window import HOUR

AT_A_TIME: Final = {MINUTE_ROLLUP: HOUR, HOUR_ROLLUP: timedelta(days=1)}
"""What one statement deletes: short transactions, and never a part of a bucket."""


def delete_expired(
    connection: Connection, name: str, keep: timedelta, is_stopped: IsStopped
) -> int:
    """Delete the rollup's buckets older than ``keep``; how many rows went."""
    rows = rollup(materialized(name, Storage.POSTGRES), Percentiles.HISTOGRAM)
    step = AT_A_TIME[name]
    horizon = bucket_of(func.now() - cast(literal(keep), Interval), HOUR)
    oldest = select(func.min(rows.c.bucket)).scalar_subquery()
    statement = delete(rows).where(
        rows.c.bucket < func.least(horizon, bucket_of(oldest, step) + cast(literal(step), Interval))
    )
    deleted = 0
    while not is_stopped():
        with connection.begin():
            gone = connection.execute(statement).rowcount
        if gone == 0:
            break
        deleted += gone
    return deleted
