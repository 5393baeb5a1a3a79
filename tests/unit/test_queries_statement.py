"""Statements: built once per shape, the same on every driver, and no more than is needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Dialect, make_url

from ledger.errors import SchemaNotReady
from ledger.models.latency import BINS_VERSION
from ledger.queries import telemetry
from ledger.queries.opening import installed
from ledger.queries.query import CLOCK_TOLERANCE, Context, Query
from ledger.queries.scope import ALL_USERS
from ledger.records.installation import Horizon, Installed
from ledger.settings import Percentiles, Storage
from ledger.window import HOUR, Window, floor

NOW = datetime(2026, 6, 15, 12, 34, 56, tzinfo=UTC)
USER = UUID("0b5c6d1e-5a0f-4c1d-9d57-6f1f3c0b7a10")
READS = (
    telemetry.overview,
    telemetry.time_series,
    telemetry.provider_model_latency,
    telemetry.daily_model_cost,
    telemetry.error_rate,
)


def dialect(driver: str) -> Dialect:
    return make_url(f"postgresql+{driver}://").get_dialect()()


PSYCOPG = dialect("psycopg")


def context(
    storage: Storage = Storage.POSTGRES,
    percentiles: Percentiles = Percentiles.HISTOGRAM,
    *,
    now: datetime = NOW,
) -> Context:
    return Context(
        installed=Installed(storage=storage, percentiles=percentiles, bins_version=BINS_VERSION),
        horizon=Horizon(now=now, raw_from=now - timedelta(days=90), watermark=floor(now, HOUR)),
    )


def sql(query: Query[Any], dialect: Dialect) -> str:
    return str(query.statement.compile(dialect=dialect))


@pytest.mark.parametrize("read", READS)
def test_a_shape_has_one_statement_whatever_its_values(read: Any) -> None:
    now = read(context(), USER, "7D")
    later = read(context(now=NOW + timedelta(days=3)), UUID(int=7), "7D")
    assert now.statement is later.statement
    assert now.parameters != later.parameters
    assert read(context(), ALL_USERS, "7D").statement is not now.statement


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("interval", ["1H", "7D"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_every_parameter_is_bound_on_every_driver(read: Any, interval: str, driver: str) -> None:
    for storage, percentiles in (
        (Storage.POSTGRES, Percentiles.HISTOGRAM),
        (Storage.TIMESCALE, Percentiles.UDDSKETCH),
    ):
        query = read(context(storage, percentiles), USER, interval, provider="openai")
        compiled = query.statement.compile(dialect=dialect(driver))
        needed = {name for name, bound in compiled.binds.items() if bound.required}
        assert needed <= set(query.parameters)
        assert set(query.parameters) <= set(compiled.binds)


def test_a_short_window_reads_raw_rows_alone() -> None:
    text = sql(telemetry.overview(context(), USER, "1H"), PSYCOPG)
    assert "percentile_cont" in text
    assert "llm_metrics" not in text


def test_only_plain_postgresql_asks_its_log() -> None:
    plain = sql(telemetry.overview(context(), USER, "7D"), PSYCOPG)
    timescale = sql(telemetry.overview(context(Storage.TIMESCALE), USER, "7D"), PSYCOPG)
    assert "llm_requests_touched" in plain
    assert "late AS" not in plain
    assert "late AS" in sql(telemetry.overview(seen(has_late_hours=True), USER, "7D"), PSYCOPG)
    assert "llm_metrics_1h_materialized" in plain
    assert "llm_requests_touched" not in timescale
    assert "llm_metrics_1h_materialized" not in timescale


@pytest.mark.parametrize("read", [telemetry.daily_model_cost, telemetry.error_rate])
def test_no_sketch_is_read_where_no_percentile_is_asked_for(read: Any) -> None:
    query = read(context(), USER, "7D")
    assert "latency" not in sql(query, PSYCOPG)


def test_days_of_whole_hours_need_no_cut_hours() -> None:
    for timezone, is_cut in (("Europe/Berlin", False), ("Asia/Kolkata", True)):
        query = telemetry.daily_model_cost(context(), USER, "7D", timezone=timezone)
        assert ("cut_hours" in query.parameters) == is_cut


def test_only_the_callers_values_are_bound_and_never_written_into_the_statement() -> None:
    query = telemetry.overview(context(), USER, "7D", provider="o'; DROP TABLE x", model="m")
    assert "DROP" not in sql(query, PSYCOPG)
    assert query.parameters["provider"] == "o'; DROP TABLE x"


KNOWN = context()
FIRST_RAW = NOW - timedelta(days=7)
"""The earliest raw row that a week counts on."""


def seen(**changes: Any) -> Context:
    """What was known, as a statement may find it changed."""
    return replace(KNOWN, horizon=replace(KNOWN.horizon, **changes))


@pytest.mark.parametrize(
    "found, holds",
    [
        (seen(), True),
        (seen(raw_from=None), True),
        (seen(raw_from=FIRST_RAW), True),
        (seen(raw_from=FIRST_RAW + HOUR), False),
        (seen(watermark=floor(NOW, HOUR) + HOUR), True),
        (seen(watermark=floor(NOW, HOUR) - HOUR), False),
        (seen(watermark=None), False),
        (seen(has_late_hours=True), False),
        (seen(now=NOW + timedelta(hours=3)), True),
        (replace(KNOWN, installed=context(Storage.TIMESCALE).installed), False),
    ],
)
def test_a_statement_holds_while_what_it_counts_on_is_there(found: Context, *, holds: bool) -> None:
    assert telemetry.overview(KNOWN, USER, "7D").holds_in(found) == holds


def test_raw_rows_alone_hold_whatever_the_rollups_do() -> None:
    query = telemetry.overview(KNOWN, USER, "1H")
    assert query.holds_in(seen(watermark=None, has_late_hours=True))


def test_what_was_gone_when_the_route_was_chosen_outdates_nothing() -> None:
    known = context(now=NOW)
    window = Window(start=NOW - timedelta(days=100), end=NOW)
    query = telemetry.overview(known, USER, window)
    assert query.holds_in(known)


def test_a_statement_that_reads_late_hours_holds_without_any() -> None:
    assert telemetry.overview(seen(has_late_hours=True), USER, "7D").holds_in(KNOWN)


@pytest.mark.parametrize(
    "apart, holds",
    [(timedelta(), True), (CLOCK_TOLERANCE, True), (CLOCK_TOLERANCE + timedelta(0, 0, 1), False)],
)
def test_a_present_that_was_worked_out_has_to_be_the_databases(
    apart: timedelta, *, holds: bool
) -> None:
    passed = timedelta(minutes=5)
    query = telemetry.overview(KNOWN.after(passed), USER, "7D")
    for direction in (1, -1):
        assert query.holds_in(seen(now=NOW + passed + direction * apart)) == holds


@pytest.mark.parametrize(
    "version, advice", [(BINS_VERSION - 1, "ledger db upgrade"), (BINS_VERSION + 1, "newer")]
)
def test_bins_of_another_version_are_refused(version: int, advice: str) -> None:
    with pytest.raises(SchemaNotReady, match=advice):
        installed([("postgres", "histogram", version)])
