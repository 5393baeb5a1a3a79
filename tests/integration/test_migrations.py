"""The migrations: up, down and up again, on nothing and on data, and what they refuse to lose."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ledger import Ledger
from ledger.ddl import migrate
from ledger.errors import DataLossRefused, MigrationFailed, SchemaNotReady
from tests.alembics import alembic
from tests.audits import PROJECT, audited, execution
from tests.catalogues import (
    LEVELS,
    REQUESTS,
    record_requests,
    recounted,
    refresh,
    rolled_up,
    snapshot,
    sql,
    stop_jobs,
)
from tests.databases import Target
from tests.ledgers import books_at

pytestmark = pytest.mark.every_target

LEFT_AT_BASE = {
    ("schema", "ledger"),
    ("relation r", "ledger.alembic_version"),
    ("relation i", "ledger.alembic_version_pkc"),
    ("constraint", "ledger.alembic_version alembic_version_pkc"),
    ("type", "ledger.alembic_version"),
}
"""Alembic keeps its table, and so our schema, when nothing else is left."""

NOT_NULLS_OF_POSTGRESQL_18 = {
    ("constraint", "ledger.alembic_version alembic_version_version_num_not_null")
}


def errors(url: str) -> list[str]:
    return [str(found) for found in migrate.check(url) if not found.is_warning]


def upgrade(url: str, target: Target, revision: str = "head") -> None:
    migrate.upgrade(url, revision, storage=target.storage, percentiles=target.percentiles)


def numberless(snapshot: set[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """TimescaleDB numbers its hypertables, and goes on counting."""
    return Counter((kind, re.sub(r"_\d+", "_N", name)) for kind, name in snapshot)


@pytest.fixture
def empty_url(empty_database_url: str) -> Iterator[str]:
    """A database with nothing in it, whose jobs do not outlive the test."""
    yield empty_database_url
    stop_jobs(empty_database_url)


@pytest.fixture
def filled_url(database_url: str, target: Target) -> str:
    """A database with requests, rolled up."""
    record_requests(database_url, target)
    refresh(database_url, target)
    return database_url


def test_up_down_and_up_again_leaves_what_was_there_before(empty_url: str, target: Target) -> None:
    url = empty_url
    if target.storage == "timescale":
        sql(url, "CREATE EXTENSION timescaledb")
    before = snapshot(url)

    upgrade(url, target)
    up = snapshot(url)
    assert errors(url) == []
    migrate.downgrade(url, "base")
    down = snapshot(url)
    upgrade(url, target)

    assert down - before - NOT_NULLS_OF_POSTGRESQL_18 == LEFT_AT_BASE
    assert before <= down
    assert errors(url) == []
    assert numberless(snapshot(url)) == numberless(up)


def test_each_revision_goes_down_to_what_was_there(empty_url: str, target: Target) -> None:
    url = empty_url
    upgrade(url, target, "0001")
    snapshots = []
    while migrate.current(url) != migrate.head():
        snapshots.append((migrate.current(url), snapshot(url)))
        upgrade(url, target, "+1")

    for revision, before in reversed(snapshots):
        migrate.downgrade(url, "-1")
        assert migrate.current(url) == revision
        assert snapshot(url) == before, f"going down to {revision}"


def test_going_up_again_when_all_is_done_changes_nothing(database_url: str, target: Target) -> None:
    before = snapshot(database_url)
    upgrade(database_url, target)
    assert snapshot(database_url) == before


def test_rollups_made_again_over_rows_equal_a_recount(filled_url: str, target: Target) -> None:
    migrate.downgrade(filled_url, "0006")
    upgrade(filled_url, target)
    not_yet_refreshed = {level: rolled_up(filled_url, level) for level in LEVELS}
    refresh(filled_url, target)

    assert sql(filled_url, "SELECT count(*) FROM ledger.llm_requests") == [(REQUESTS,)]
    for level, grain in LEVELS.items():
        expected = recounted(filled_url, grain)
        assert sum(row[0] for row in expected.values()) == REQUESTS
        assert not_yet_refreshed[level] == expected
        assert rolled_up(filled_url, level) == expected
    [(watermark,)] = sql(filled_url, "SELECT watermark FROM ledger.rollup_progress")
    assert watermark > max(bucket for bucket, *_ in recounted(filled_url, "hour"))
    assert errors(filled_url) == []


def test_rows_written_between_down_and_up_are_rolled_up(filled_url: str, target: Target) -> None:
    migrate.downgrade(filled_url, "0006")
    sql(
        filled_url,
        """INSERT INTO ledger.llm_requests
        SELECT (jsonb_populate_record(r, jsonb_build_object('id',
          overlay(id::text PLACING '9' FROM 20 FOR 1)))).* FROM ledger.llm_requests r""",
    )
    upgrade(filled_url, target)
    refresh(filled_url, target)

    for level, grain in LEVELS.items():
        expected = recounted(filled_url, grain)
        assert sum(row[0] for row in expected.values()) == 2 * REQUESTS
        assert rolled_up(filled_url, level) == expected


@pytest.mark.storage("timescale")
def test_rows_kept_by_column_come_back_as_rows(filled_url: str, target: Target) -> None:
    jobs = sql(
        filled_url,
        "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression'",
    )
    sql(filled_url, *(f"CALL run_job({number})" for (number,) in jobs))
    compressed = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"
    assert sql(filled_url, compressed) > [(0,)]
    assert errors(filled_url) == []

    migrate.downgrade(filled_url, "0006")
    assert sql(filled_url, compressed) == [(0,)]
    upgrade(filled_url, target)
    refresh(filled_url, target)

    for level, grain in LEVELS.items():
        assert rolled_up(filled_url, level) == recounted(filled_url, grain)


def forget_the_oldest_raw_day(url: str, target: Target) -> None:
    """As retention does: whole days of raw rows go, what was rolled up from them stays."""
    [(oldest,)] = sql(url, 'SELECT min("timestamp") FROM ledger.llm_requests')
    day = oldest.astimezone(UTC)
    if target.storage == "timescale":
        end = datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=UTC).isoformat()
        sql(url, f"SELECT drop_chunks('ledger.llm_requests', older_than => '{end}'::timestamptz)")
        [(left,)] = sql(url, 'SELECT min("timestamp") FROM ledger.llm_requests')
        if left == oldest:
            end = datetime.fromtimestamp(day.timestamp() + 2 * 86_400, tz=UTC).isoformat()
            sql(
                url,
                f"SELECT drop_chunks('ledger.llm_requests', older_than => '{end}'::timestamptz)",
            )
    else:
        partition = f"llm_requests_p{day:%Y%m%d}"
        sql(
            url,
            f"ALTER TABLE ledger.llm_requests DETACH PARTITION ledger.{partition}",
            f"DROP TABLE ledger.{partition}",
        )


def test_a_rollup_with_history_older_than_raw_is_not_dropped(
    filled_url: str, target: Target
) -> None:
    forget_the_oldest_raw_day(filled_url, target)
    before = snapshot(filled_url)

    with pytest.raises(DataLossRefused, match="llm_metrics_1h holds history older than the raw"):
        migrate.downgrade(filled_url, "0006")
    with pytest.raises(DataLossRefused, match="llm_metrics_1m holds"):
        migrate.downgrade(filled_url, "0006", allow_data_loss=["llm_metrics_1h"])

    assert migrate.current(filled_url) == migrate.head()
    assert snapshot(filled_url) == before
    assert errors(filled_url) == []

    migrate.downgrade(filled_url, "0006", allow_data_loss=["llm_metrics_1h", "llm_metrics_1m"])
    assert migrate.current(filled_url) == "0006"


def test_a_table_with_rows_is_not_dropped_and_nothing_else_is(filled_url: str) -> None:
    before = snapshot(filled_url)

    with pytest.raises(DataLossRefused, match="allow-data-loss llm_requests"):
        migrate.downgrade(filled_url, "base")

    assert migrate.current(filled_url) == migrate.head()
    assert snapshot(filled_url) == before
    assert errors(filled_url) == []


def test_each_table_that_would_be_lost_must_be_named(filled_url: str) -> None:
    sql(
        filled_url,
        "INSERT INTO ledger.role_scopes (role, kind) VALUES ('somebody', 'auditor')",
    )

    with pytest.raises(DataLossRefused, match="role_scopes holds rows"):
        migrate.downgrade(filled_url, "base", allow_data_loss=["llm_requests"])
    with pytest.raises(DataLossRefused, match="llm_requests holds rows"):
        migrate.downgrade(filled_url, "base", allow_data_loss=["role_scopes"])
    assert migrate.current(filled_url) == migrate.head()

    migrate.downgrade(filled_url, "base", allow_data_loss=["llm_requests", "role_scopes"])
    assert migrate.current(filled_url) is None


def test_a_downgrade_that_keeps_the_table_needs_no_permission(filled_url: str) -> None:
    migrate.downgrade(filled_url, "0002")
    assert sql(filled_url, "SELECT count(*) FROM ledger.llm_requests") == [(REQUESTS,)]


def test_alembic_itself_refuses_and_lets_go_by_name(filled_url: str, target: Target) -> None:
    refused = alembic(filled_url, target, "downgrade", "base")
    assert refused.returncode != 0
    assert "alembic -x allow-data-loss=llm_requests" in refused.stderr + refused.stdout
    assert "Traceback" not in refused.stderr
    assert migrate.current(filled_url) == migrate.head()

    allowed = alembic(filled_url, target, "-x", "allow-data-loss=llm_requests", "downgrade", "base")
    assert allowed.returncode == 0, allowed.stderr
    assert migrate.current(filled_url) is None


def test_runs_outlive_their_sums_and_are_not_dropped_unnamed(
    database_url: str, target: Target
) -> None:
    runs = [execution(f"run {number}") for number in range(5)]
    with audited(database_url, *runs) as ledger:
        ledger.audit.erase_payload("run 3", "a request")
        taken = ledger.audit.checkpoint()
        said = ledger.audit.project_execution_statistics(PROJECT)

    migrate.downgrade(database_url, "0030")
    with pytest.raises(DataLossRefused, match="execution_"):
        migrate.downgrade(database_url, "0029")
    upgrade(database_url, target)

    with Ledger.connect(database_url) as ledger:
        assert ledger.audit.verify_all(checkpoint=taken).is_intact
        assert ledger.audit.project_execution_statistics(PROJECT) == said
        ledger.audit.record_execution(execution("one more"))
        assert ledger.audit.verify(PROJECT, checkpoint=taken).rows == 6
    assert errors(database_url) == []


def test_an_unknown_revision_is_an_error_of_ours(database_url: str) -> None:
    with pytest.raises(MigrationFailed, match="9999"):
        migrate.upgrade(database_url, "9999")


def test_check_asks_for_the_newest_revision(empty_url: str, target: Target) -> None:
    with pytest.raises(SchemaNotReady, match="at revision none"):
        migrate.check(empty_url)
    upgrade(empty_url, target, "0003")
    with pytest.raises(SchemaNotReady, match="at revision 0003, this package needs"):
        migrate.check(empty_url)


def test_a_column_with_values_is_not_dropped(database_url: str) -> None:
    with books_at(database_url) as books:
        books.ledger.billing.record_usage(books.usage(tier="nobody's", vendor_cost="0.5"))

    with pytest.raises(DataLossRefused, match="token_usage_ledger holds values of stated_cost"):
        migrate.downgrade(database_url, "0024")
    assert migrate.current(database_url) == migrate.head()

    migrate.downgrade(database_url, "0024", allow_data_loss=["token_usage_ledger"])
    assert migrate.current(database_url) == "0024"
    migrate.upgrade(database_url)
    assert errors(database_url) == []
