"""Verifies that a billing ledger is what a dashboard can stand on: four tasks, one report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC

from sqlalchemy import func, select

from ledger.ddl import migrate
from ledger.ddl.search_path import trusted
from ledger.engine import engine, shown, translated_errors
from ledger.maintenance.verification.data import DataReport, verify_data
from ledger.maintenance.verification.differences import of_billing
from ledger.maintenance.verification.indexes import UNUSED_AFTER, UnusedAfter, verify_indexes
from ledger.maintenance.verification.limits import LIMITS, Limits
from ledger.maintenance.verification.report import AnalyticsReport
from ledger.maintenance.verification.schema import verify_schema
from ledger.maintenance.verification.sight import sight_of
from ledger.maintenance.verification.timings import (
    PerformanceReport,
    Questions,
    measure,
    skipped,
)


def verify_analytics(
    url: str,
    billing: Questions,
    *,
    limits: Mapping[str, Limits] = LIMITS,
    unused_after: UnusedAfter = UNUSED_AFTER,
) -> AnalyticsReport:
    """Look at the database at ``url``, and time the answers of its ``billing`` ledger.

    Changes nothing. Any role that was granted something may look; what it may not see is in the
    report. Raises SchemaNotReady where the ledger is not at the newest revision,
    PermissionMissing for a role that was granted nothing, DatabaseUnavailable.
    """
    compared = migrate.check(url)
    looking = engine(url)
    try:
        with translated_errors(), looking.begin() as connection, trusted(connection):
            sight = sight_of(connection)
            differences = of_billing(compared, sight)
            at = connection.scalars(select(func.now())).one().astimezone(UTC)
            data = verify_data(connection, sight)
            schema = verify_schema(connection, sight, differences)
            indexes = verify_indexes(connection, sight, differences, data.rows, unused_after)
    finally:
        looking.dispose()
    return AnalyticsReport(
        database=shown(url),
        role=sight.role,
        at=at,
        schema=schema,
        indexes=indexes,
        data=data,
        # In no transaction of ours: they are asked as an application asks them.
        performance=_performance(billing, data, limits),
    )


def _performance(
    billing: Questions, data: DataReport, limits: Mapping[str, Limits]
) -> PerformanceReport:
    if data.last_created_at is not None:
        return measure(billing, data.last_created_at, limits)
    return skipped(limits, "no data" if data.rows == 0 else "the data was not counted")
