"""One run of maintenance, on either storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, exists, select

from ledger.ddl.retention import LEVELS, wishes
from ledger.ddl.search_path import trust_in_each_transaction
from ledger.maintenance.connection import (
    IsStopped,
    each_statement_sees_the_latest,
    interrupted_when,
    never,
)
from ledger.maintenance.expiry import delete_expired
from ledger.maintenance.folding import fold_sums
from ledger.maintenance.jobs import job_problems, jobs
from ledger.maintenance.partitions import make_days_ahead
from ledger.maintenance.refresh import refresh_aggregates, refresh_rollups
from ledger.maintenance.report import MaintenanceReport
from ledger.maintenance.retirement import retire_days
from ledger.maintenance.standing import standing
from ledger.models.telemetry import HOUR_ROLLUP, MINUTE_ROLLUP, LLMRequest
from ledger.queries.opening import SOURCE
from ledger.settings import Storage

if TYPE_CHECKING:
    from ledger.records.installation import Horizon

LONGEST_LAG: Final = timedelta(hours=2)
"""An hour is rolled up within minutes of its end; raw rows that wait longer are a fault."""


def run(connection: Connection, is_stopped: IsStopped = never) -> MaintenanceReport:
    """Do what is due, and say what was done. Every step is a transaction of its own.

    Ends early, between two steps or in the middle of one, once ``is_stopped``.
    """
    each_statement_sees_the_latest(connection)
    trust_in_each_transaction(connection)
    known = standing(connection)
    with connection.begin():
        keeps = {LEVELS[level]: keep for level, keep in wishes(connection).items()}
    is_interrupted = (
        nullcontext() if is_stopped is never else interrupted_when(connection, is_stopped)
    )
    with is_interrupted:
        report = (
            _on_postgres(connection, known.horizon, keeps, is_stopped)
            if known.installed.storage is Storage.POSTGRES
            else _on_timescale(connection, keeps, is_stopped)
        )
        return replace(report, deltas_folded=fold_sums(connection, is_stopped))


def _on_postgres(
    connection: Connection,
    before: Horizon,
    keeps: Mapping[str, timedelta | None],
    is_stopped: IsStopped,
) -> MaintenanceReport:
    # Partitions first: whatever takes long or fails after that, writers go on.
    made = make_days_ahead(connection)
    waiting = refresh_rollups(connection, is_stopped)
    keep = keeps[SOURCE]
    retired = retire_days(connection, None if keep is None else before.now - keep, is_stopped)
    deleted = {
        name: 0
        if (kept := keeps[name]) is None
        else delete_expired(connection, name, kept, is_stopped)
        for name in (MINUTE_ROLLUP, HOUR_ROLLUP)
    }
    after = standing(connection).horizon
    return MaintenanceReport(
        storage=Storage.POSTGRES,
        at=after.now,
        raw_from=after.raw_from,
        watermark=after.watermark,
        partitions_made=made,
        groups_waiting=waiting,
        days_retired=tuple(retired.days),
        minute_rows_deleted=deleted[MINUTE_ROLLUP],
        hour_rows_deleted=deleted[HOUR_ROLLUP],
        problems=(*retired.problems, *_lag(connection, after)),
    )


def _on_timescale(
    connection: Connection, keeps: Mapping[str, timedelta | None], is_stopped: IsStopped
) -> MaintenanceReport:
    refresh_aggregates(connection, is_stopped)
    after = standing(connection).horizon
    problems = job_problems(jobs(connection), keeps=keeps, now=after.now)
    return MaintenanceReport(
        storage=Storage.TIMESCALE,
        at=after.now,
        raw_from=after.raw_from,
        watermark=after.watermark,
        problems=(*problems, *_lag(connection, after)),
    )


def _lag(connection: Connection, horizon: Horizon) -> Iterator[str]:
    """What to say where raw rows have waited too long to be rolled up."""
    old = [LLMRequest.timestamp < horizon.now - LONGEST_LAG]
    old += [
        LLMRequest.timestamp >= since
        for since in (horizon.watermark, horizon.raw_from)
        if since is not None
    ]
    with connection.begin():
        is_late = connection.execute(select(exists().where(*old))).scalar_one()
    if is_late:
        rolled_up = "never" if horizon.watermark is None else horizon.watermark.isoformat()
        yield (
            f"rows older than {LONGEST_LAG} are not rolled up (rolled up to: {rolled_up}), so that"
            " reads are slow, though right; see whether another session holds the refresh, and"
            " run `ledger maintain` again"
        )
