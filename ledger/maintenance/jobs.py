"""Whether TimescaleDB's jobs do what plain PostgreSQL's maintenance does, and what to do if not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Integer,
    String,
    Text,
    and_,
    func,
    or_,
    select,
)
from sqlalchemy import table as lightweight_table
from sqlalchemy.dialects.postgresql import TIMESTAMP

from ledger.maintenance.refresh import CONCURRENT_REFRESH
from ledger.models.base import SCHEMA
from ledger.models.telemetry import HOUR_ROLLUP, MINUTE_ROLLUP
from ledger.queries.opening import SOURCE, finite
from ledger.queries.query import AnySelect

REFRESH: Final = "refresh_metrics"
COLUMNSTORE: Final = "policy_compression"
RETENTION: Final = "policy_retention"

LATE: Final = timedelta(minutes=10)
"""A job that has been due for longer is not being started."""

_WORDS: Final = {
    REFRESH: "the job that refreshes the rollups",
    COLUMNSTORE: "the columnstore policy",
    RETENTION: "the retention policy",
}

_INFORMATION: Final = "timescaledb_information"

_jobs = lightweight_table(
    "jobs",
    Column("job_id", Integer),
    Column("proc_schema", String),
    Column("proc_name", String),
    Column("scheduled", Boolean),
    Column("hypertable_schema", String),
    Column("hypertable_name", String),
    schema=_INFORMATION,
)
_statistics = lightweight_table(
    "job_stats",
    Column("job_id", Integer),
    Column("last_run_status", Text),
    Column("job_status", Text),
    Column("next_start", TIMESTAMP(timezone=True)),
    schema=_INFORMATION,
)
_errors = lightweight_table(
    "job_errors",
    Column("job_id", Integer),
    Column("finish_time", TIMESTAMP(timezone=True)),
    Column("err_message", Text),
    schema=_INFORMATION,
)
_aggregates = lightweight_table(
    "continuous_aggregates",
    Column("view_schema", String),
    Column("view_name", String),
    Column("materialization_hypertable_name", String),
    schema=_INFORMATION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One background job as TimescaleDB knows it."""

    id: int
    procedure: str
    relation: str | None
    """What a policy is about; None for the refresh, which is about all."""
    is_scheduled: bool
    has_failed: bool
    """Whether its last run did."""
    error: str | None
    next_start: datetime | None
    """When it is due; None where it is running or not to run."""


def jobs(connection: Connection) -> list[Job]:
    """The jobs that are about the ledger."""
    with connection.begin():
        return [Job(**row._mapping) for row in connection.execute(_jobs_of_ledger())]  # noqa: SLF001


def job_problems(
    found: Iterable[Job], *, keeps: Mapping[str, timedelta | None], now: datetime
) -> Iterator[str]:
    """What is missing, disabled, failing or never started; ``keeps`` is relation -> retention."""
    by_task = {(job.procedure, job.relation): job for job in found}
    for task in _expected(keeps):
        words = _words(*task)
        if (job := by_task.get(task)) is None:
            yield f"{words} is missing; `ledger db check` says what else is"
        elif not job.is_scheduled:
            yield f"{words} is disabled; SELECT alter_job({job.id}, scheduled => true)"
        elif job.has_failed:
            yield (
                f"{words} failed when it ran last: {job.error or 'the reason was not kept'};"
                f" CALL run_job({job.id}) tries it again"
            )
        elif job.next_start is not None and job.next_start < now - LATE:
            yield (
                f"{words} has been due since {job.next_start.isoformat(timespec='seconds')} and was"
                " not started; see that timescaledb.max_background_workers and"
                " max_worker_processes leave room, and that timescaledb.restoring is off, then"
                " SELECT _timescaledb_functions.start_background_workers()"
            )


def _expected(keeps: Mapping[str, timedelta | None]) -> Iterator[tuple[str, str | None]]:
    yield REFRESH, None
    for relation in (SOURCE, MINUTE_ROLLUP, HOUR_ROLLUP):
        yield COLUMNSTORE, relation
        if keeps.get(relation) is not None:
            yield RETENTION, relation


def _words(procedure: str, relation: str | None) -> str:
    return _WORDS[procedure] if relation is None else f"{_WORDS[procedure]} of {relation}"


def _jobs_of_ledger() -> AnySelect:
    last_error = (
        select(_errors.c.err_message)
        .where(_errors.c.job_id == _jobs.c.job_id)
        .order_by(_errors.c.finish_time.desc())
        .limit(1)
        .scalar_subquery()
    )
    # A policy of an aggregate is shown under its view, by older versions under what it
    # materialises into.
    relation = func.coalesce(_aggregates.c.view_name, _jobs.c.hypertable_name)
    is_of_aggregate = and_(
        _aggregates.c.view_schema == SCHEMA,
        _aggregates.c.materialization_hypertable_name == _jobs.c.hypertable_name,
    )
    return (
        select(
            _jobs.c.job_id.label("id"),
            _jobs.c.proc_name.label("procedure"),
            relation.label("relation"),
            _jobs.c.scheduled.label("is_scheduled"),
            and_(
                func.coalesce(_statistics.c.last_run_status, "") == "Failed",
                # Somebody else was refreshing, such as we: the work was done.
                ~func.coalesce(last_error, "").contains(CONCURRENT_REFRESH),
            ).label("has_failed"),
            last_error.label("error"),
            # -infinity stands for never.
            finite(_statistics.c.next_start).label("next_start"),
        )
        .select_from(_jobs)
        .outerjoin(_statistics, _statistics.c.job_id == _jobs.c.job_id)
        .outerjoin(_aggregates, is_of_aggregate)
        .where(
            or_(
                _jobs.c.proc_schema == SCHEMA,
                _jobs.c.hypertable_schema == SCHEMA,
                _aggregates.c.view_name.is_not(None),
            ),
            _jobs.c.proc_name.in_(_WORDS),
        )
    )
