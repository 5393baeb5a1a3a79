"""A revision that alembic generates from drift names our operations, and undoes the drift."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from ledger.ddl.compare import differences
from tests.alembics import config
from tests.catalogues import sql, stop_jobs
from tests.databases import Target


@dataclass(frozen=True, slots=True)
class Repair:
    """What is broken, and the line of the revision that mends it."""

    name: str
    done: str
    line: str

    def __str__(self) -> str:
        return self.name


ON_EVERY_STORAGE = [
    Repair(
        "dropped_view",
        "DROP VIEW ledger.visible_requests",
        "op.create_view('visible_requests', query=",
    ),
    Repair(
        "dropped_index",
        "DROP INDEX ledger.llm_requests_category_idx",
        "op.create_covering_index('llm_requests_category_idx', table='llm_requests',",
    ),
    Repair(
        "changed_index",
        "DROP INDEX ledger.llm_requests_category_idx;"
        "CREATE INDEX llm_requests_category_idx ON ledger.llm_requests (category)",
        "op.drop_covering_index('llm_requests_category_idx', table='llm_requests',",
    ),
    Repair(
        "invalid_index",
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = 'ledger.llm_requests_errors_idx'::regclass",
        "op.create_covering_index('llm_requests_errors_idx', table='llm_requests',",
    ),
    Repair(
        "index_of_somebody",
        "CREATE INDEX rogue_idx ON ledger.llm_requests (latency_ms)",
        "op.drop_index(",
    ),
    Repair(
        "changed_function",
        "CREATE OR REPLACE FUNCTION ledger.raw_from() RETURNS timestamptz LANGUAGE sql"
        " AS 'SELECT now()'",
        "op.create_routine('raw_from', arguments='', definition=",
    ),
]

ON_POSTGRES = [
    Repair(
        "disabled_trigger",
        "ALTER TABLE ledger.llm_requests DISABLE TRIGGER llm_requests_touched_by_insert",
        "op.create_rollup('llm_metrics_1m', source='llm_requests',",
    ),
]

ON_TIMESCALE = [
    Repair(
        "dropped_policy",
        "SELECT remove_retention_policy('ledger.llm_requests')",
        "op.set_retention('llm_requests', keep=timedelta(days=90))",
    ),
    Repair(
        "dropped_columnstore_policy",
        "CALL remove_columnstore_policy('ledger.llm_metrics_1m')",
        "op.set_columnstore('llm_metrics_1m', segment_by='user_id',",
    ),
    Repair(
        "paused_job",
        "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs"
        " WHERE proc_name = 'refresh_metrics'",
        "op.set_refresh('refresh_metrics', series='llm_requests',",
    ),
    Repair(
        "materialized_only",
        "ALTER MATERIALIZED VIEW ledger.llm_metrics_1h SET (timescaledb.materialized_only = true)",
        "op.create_rollup('llm_metrics_1h', source='llm_metrics_1m',",
    ),
]


def problems(url: str) -> list[str]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return [str(found) for found in differences(connection) if not found.is_warning]


def expect(repair: Repair, url: str, target: Target, versions: Path) -> None:
    stop_jobs(url)
    sql(url, *repair.done.split(";"))
    assert problems(url) != []
    ours = config(url, target, versions)

    command.revision(ours, "repair", autogenerate=True, version_path=str(versions))
    [revision] = versions.glob("*.py")
    assert repair.line in revision.read_text()
    command.upgrade(ours, "head")

    assert problems(url) == []
    command.check(ours)


@pytest.mark.parametrize("repair", ON_EVERY_STORAGE, ids=str)
def test_a_generated_revision_repairs(
    repair: Repair, database_url: str, target: Target, tmp_path: Path
) -> None:
    expect(repair, database_url, target, tmp_path)


@pytest.mark.storage("postgres")
@pytest.mark.parametrize("repair", ON_POSTGRES, ids=str)
def test_a_generated_revision_repairs_partitions(
    repair: Repair, database_url: str, target: Target, tmp_path: Path
) -> None:
    expect(repair, database_url, target, tmp_path)


@pytest.mark.storage("timescale")
@pytest.mark.parametrize("repair", ON_TIMESCALE, ids=str)
def test_a_generated_revision_repairs_a_hypertable(
    repair: Repair, database_url: str, target: Target, tmp_path: Path
) -> None:
    expect(repair, database_url, target, tmp_path)
