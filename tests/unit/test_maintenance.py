"""Maintenance without a database: its pace, what it says of jobs, its results as values."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from ledger import DatabaseUnavailable
from ledger.maintenance import Difference, MaintenanceReport, Reconciliation
from ledger.maintenance.jobs import COLUMNSTORE, REFRESH, RETENTION, Job, job_problems
from ledger.maintenance.maintenance import _log_failure, _log_report
from ledger.maintenance.pace import Pace
from ledger.models.telemetry import HOUR_ROLLUP, MINUTE_ROLLUP
from ledger.queries.opening import SOURCE
from ledger.settings import Storage
from ledger.window import HOUR, Window

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEEPS = {SOURCE: timedelta(days=90), MINUTE_ROLLUP: timedelta(days=90), HOUR_ROLLUP: None}
MINUTE = timedelta(minutes=1)


def test_after_failures_the_pause_doubles_up_to_the_ordinary_one_and_starts_anew() -> None:
    pace = Pace(MINUTE)
    pauses = []
    for _ in range(8):
        pace.failed()
        pauses.append(pace.pause.total_seconds())
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    pace.succeeded()
    assert pace.pause == MINUTE
    pace.failed()
    assert pace.pause == timedelta(seconds=1)


def test_failures_are_never_slower_than_successes() -> None:
    pace = Pace(timedelta(milliseconds=10))
    pace.failed()
    assert pace.pause == timedelta(milliseconds=10)


def job(procedure: str, relation: str | None = None, **values: Any) -> Job:
    healthy: dict[str, Any] = {
        "id": 1000,
        "procedure": procedure,
        "relation": relation,
        "is_scheduled": True,
        "has_failed": False,
        "error": None,
        "next_start": NOW + MINUTE,
    }
    return Job(**(healthy | values))


def jobs() -> list[Job]:
    return [
        job(REFRESH),
        *(job(COLUMNSTORE, relation) for relation in KEEPS),
        *(job(RETENTION, relation) for relation, keep in KEEPS.items() if keep is not None),
    ]


def test_jobs_that_do_their_work_are_no_problem() -> None:
    assert list(job_problems(jobs(), keeps=KEEPS, now=NOW)) == []


@pytest.mark.parametrize("missing", range(6))
def test_each_job_is_missed(missing: int) -> None:
    found = jobs()
    del found[missing]
    (problem,) = job_problems(found, keeps=KEEPS, now=NOW)
    assert "is missing" in problem


def test_a_level_that_is_kept_for_ever_needs_no_retention_policy() -> None:
    found = [one for one in jobs() if one.procedure != RETENTION]
    assert list(job_problems(found, keeps=dict.fromkeys(KEEPS), now=NOW)) == []


@pytest.mark.parametrize(
    "fault, words",
    [
        ({"is_scheduled": False}, "SELECT alter_job(1000, scheduled => true)"),
        ({"has_failed": True, "error": "disk full"}, "disk full; CALL run_job(1000)"),
        ({"has_failed": True}, "the reason was not kept; CALL run_job(1000)"),
        ({"next_start": NOW - timedelta(minutes=11)}, "max_background_workers"),
    ],
)
def test_a_job_that_does_not_work_is_named_with_the_way_out(
    fault: dict[str, Any], words: str
) -> None:
    (problem,) = job_problems([job(REFRESH, **fault), *jobs()[1:]], keeps=KEEPS, now=NOW)
    assert problem.startswith("the job that refreshes the rollups ")
    assert words in problem


@pytest.mark.parametrize("next_start", [None, NOW - timedelta(minutes=9)])
def test_a_job_that_runs_or_was_due_a_moment_ago_is_no_problem(next_start: datetime | None) -> None:
    found = [job(REFRESH, next_start=next_start), *jobs()[1:]]
    assert list(job_problems(found, keeps=KEEPS, now=NOW)) == []


def test_a_report_can_be_written_as_json() -> None:
    report = MaintenanceReport(
        storage=Storage.POSTGRES,
        at=NOW,
        raw_from=None,
        watermark=NOW,
        days_retired=(date(2026, 8, 1),),
        problems=("something",),
    )
    assert json.loads(json.dumps(report.to_dict())) == {
        "storage": "postgres",
        "at": "2026-11-21T12:00:00Z",
        "raw_from": None,
        "watermark": "2026-11-21T12:00:00Z",
        "partitions_made": 0,
        "groups_waiting": 0,
        "days_retired": ["2026-08-01"],
        "minute_rows_deleted": 0,
        "hour_rows_deleted": 0,
        "deltas_folded": 0,
        "problems": ["something"],
        "is_healthy": False,
    }


def test_unless_told_otherwise_problems_and_failures_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _log_report(
        MaintenanceReport(
            storage=Storage.POSTGRES, at=NOW, raw_from=None, watermark=None, problems=("a", "b")
        )
    )
    _log_failure(DatabaseUnavailable("gone"))
    assert [record.getMessage() for record in caplog.records] == [
        "a",
        "b",
        "maintenance failed and will be tried again: gone",
    ]


def difference(**values: Any) -> Difference:
    given: dict[str, Any] = {
        "level": HOUR_ROLLUP,
        "bucket": NOW,
        "user_id": UUID(int=1),
        "provider": "openai",
        "model": "gpt",
        "measure": "cost_usd",
        "raw": Decimal("0.10"),
        "rollup": Decimal("0.1000000001"),
    }
    return Difference(**(given | values))


def test_a_difference_reads_as_a_sentence() -> None:
    assert str(difference()) == (
        "llm_metrics_1h 2026-11-21T12:00:00+00:00 00000000-0000-0000-0000-000000000001 openai/gpt:"
        " cost_usd is 0.1000000001 in the rollup, 0.1 in the raw rows"
    )
    missing = difference(measure="requests", raw=3, rollup=None, awaits_refresh=True)
    assert str(missing).endswith(
        "requests is missing in the rollup, 3 in the raw rows; the next refresh takes it in"
    )


def test_a_reconciliation_can_be_written_as_json() -> None:
    window = Window(start=NOW, end=NOW + 3 * HOUR)
    found = Reconciliation(
        asked=window,
        compared=window,
        requests=5,
        groups_left_out=0,
        differences=(difference(),),
        differences_found=1,
    )
    written = json.loads(json.dumps(found.to_dict()))
    assert (written["hours_compared"], written["is_complete"], written["is_clean"]) == (
        3,
        True,
        False,
    )
    assert written["differences"][0]["raw"] == "0.1"
