"""How TimescaleDB gets what the ledger asks for."""

from __future__ import annotations

from functools import singledispatch

from ledger.ddl import common
from ledger.ddl.aggregates import EPOCH, aggregate_sql
from ledger.ddl.facts import AggregateIs, ChunksHaveIndexes, Fact, Holds, RoutineIs
from ledger.ddl.objects import (
    Columnstore,
    CoveringIndex,
    Refresh,
    Retention,
    Rollup,
    Routine,
    TimeSeries,
)
from ledger.ddl.routines import create_routine, drop_routine
from ledger.ddl.steps import Step, block, interval, literal
from ledger.settings import Percentiles

_REFRESH_ARGUMENTS = "job_id integer DEFAULT 0, config jsonb DEFAULT '{}'"


@singledispatch
def create(target: object, encoding: Percentiles) -> list[Step]:
    """The steps that make the object, or make it again as it should be."""
    return common.create(target, encoding)


@singledispatch
def drop(target: object, encoding: Percentiles) -> list[Step]:
    """The steps that take the object away."""
    return common.drop(target, encoding)


@singledispatch
def facts(target: object, encoding: Percentiles) -> list[Fact]:
    """What can be seen to hold where the object is there and as it should be."""
    return common.facts(target, encoding)


@create.register(TimeSeries)
def _(target: TimeSeries, encoding: Percentiles) -> list[Step]:
    return [
        Step(
            sql=f"SELECT create_hypertable('ledger.{target.name}',"
            f" by_range({literal(target.time_column)}, {interval(target.chunk)}),"
            " create_default_indexes => false, if_not_exists => true)"
        ),
        *common.progress_rows(target.name),
    ]


@drop.register(TimeSeries)
def _(target: TimeSeries, encoding: Percentiles) -> list[Step]:
    return [Step(sql=f"DELETE FROM ledger.rollup_progress WHERE source = {literal(target.name)}")]


@create.register(CoveringIndex)
def _(target: CoveringIndex, encoding: Percentiles) -> list[Step]:
    where = f" WHERE {target.where}" if target.where else ""
    name = f"ledger.{target.name}"
    return [
        Step(
            sql=f"SELECT 'DROP INDEX {name}' FROM pg_index"
            f" WHERE indexrelid = to_regclass('{name}') AND NOT indisvalid",
            runs_outside_transaction=True,
            is_generator=True,
        ),
        Step(
            sql=f"CREATE INDEX IF NOT EXISTS {target.name} ON ledger.{target.table}"
            f" USING {target.using} ({', '.join(target.columns)})"
            f" WITH (timescaledb.transaction_per_chunk){where}",
            runs_outside_transaction=True,
        ),
    ]


@drop.register(CoveringIndex)
def _(target: CoveringIndex, encoding: Percentiles) -> list[Step]:
    return [Step(sql=f"DROP INDEX IF EXISTS ledger.{target.name}")]


def aggregate(rollup: Rollup, encoding: Percentiles) -> str:
    """The continuous aggregate's SELECT."""
    interval_sql = f"INTERVAL '{common.seconds(rollup.bucket)} seconds'"
    bucket = f'time_bucket({interval_sql}, "{rollup.time_column}")'
    return aggregate_sql(rollup, bucket, f"ledger.{rollup.source}", encoding)


@create.register(Rollup)
def _(target: Rollup, encoding: Percentiles) -> list[Step]:
    return [
        Step(
            sql=f"CREATE MATERIALIZED VIEW IF NOT EXISTS ledger.{target.name} WITH"
            " (timescaledb.continuous, timescaledb.materialized_only = false,"
            f" timescaledb.create_group_indexes = false) AS {aggregate(target, encoding)}"
            " WITH NO DATA"
        ),
        Step(
            sql=f"ALTER MATERIALIZED VIEW ledger.{target.name}"
            " SET (timescaledb.materialized_only = false)"
        ),
        Step(
            sql=f"CREATE INDEX IF NOT EXISTS {target.name}_user_id_bucket_idx"
            f" ON ledger.{target.name} (user_id, bucket DESC)"
        ),
    ]


@drop.register(Rollup)
def _(target: Rollup, encoding: Percentiles) -> list[Step]:
    return [
        Step(sql=f"DROP MATERIALIZED VIEW IF EXISTS ledger.{target.name}"),
    ]


def refresh_procedure(refresh: Refresh, *, options: str) -> Routine:
    """`refresh_metrics`: every level in order, oldest first in one batch, then the watermark.

    It begins an hour before the horizon, whose chunk is still there: a row accepted at the
    horizon is refreshed although the horizon has moved on meanwhile.

    The default order, newest first, moves an aggregate's own watermark past buckets that are
    still empty, and every read meanwhile is wrong. Never below `raw_from`: a refresh where
    raw rows are gone erases what was rolled up from them. The watermark is our own row, as
    `cagg_watermark()` is not consistent within a statement while a refresh commits.
    """
    calls = "\n  ".join(
        f"CALL refresh_continuous_aggregate('ledger.{name}', low, high{options});\n  COMMIT;"
        for name in refresh.rollups
    )
    return Routine(
        name="refresh_metrics",
        arguments=_REFRESH_ARGUMENTS,
        definition=f"""LANGUAGE plpgsql AS $procedure$
DECLARE
  low timestamptz := nullif(ledger.raw_from(), '-infinity') - INTERVAL '1 hour';
  high timestamptz := date_bin('1 hour',
    now() - INTERVAL '{common.seconds(refresh.settle)} seconds', {EPOCH});
BEGIN
  IF low >= high THEN
    RETURN;
  END IF;
  {calls}
  UPDATE ledger.rollup_progress SET watermark = high
  WHERE source = {literal(refresh.series)} AND watermark < high;
END
$procedure$""",
    )


OPTIONS = """, options => '{"buckets_per_batch": 0, "refresh_newest_first": false}'"""


@create.register(Refresh)
def _(target: Refresh, encoding: Percentiles) -> list[Step]:
    plain, ordered = (
        create_routine(refresh_procedure(target, options=options)).sql for options in ("", OPTIONS)
    )
    return [
        Step(
            # Older versions refresh in one batch and know no options.
            sql=block(
                f"""BEGIN
  IF EXISTS (SELECT FROM pg_proc WHERE proname = 'refresh_continuous_aggregate'
             AND 'options' = ANY (proargnames)) THEN
    EXECUTE $ordered${ordered}$ordered$;
  ELSE
    EXECUTE $plain${plain}$plain$;
  END IF;
  IF NOT EXISTS (SELECT FROM timescaledb_information.jobs
                 WHERE proc_schema = 'ledger' AND proc_name = 'refresh_metrics') THEN
    PERFORM add_job('ledger.refresh_metrics', {interval(target.every)}, fixed_schedule => false);
  ELSE
    PERFORM alter_job(job_id, scheduled => true, schedule_interval => {interval(target.every)})
    FROM timescaledb_information.jobs
    WHERE proc_schema = 'ledger' AND proc_name = 'refresh_metrics';
  END IF;
END"""
            )
        )
    ]


@drop.register(Refresh)
def _(target: Refresh, encoding: Percentiles) -> list[Step]:
    return [
        Step(
            sql="SELECT delete_job(job_id) FROM timescaledb_information.jobs"
            " WHERE proc_schema = 'ledger' AND proc_name = 'refresh_metrics'",
            runs_outside_transaction=True,
        ),
        Step(
            # Dropping an aggregate beside a running refresh is «tuple concurrently deleted».
            sql=block(
                """BEGIN
  FOR attempt IN 1 .. 600 LOOP
    PERFORM pg_stat_clear_snapshot();
    EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
      AND pid <> pg_backend_pid() AND state = 'active'
      AND query LIKE 'CALL ledger.refresh_metrics%');
    PERFORM pg_sleep(0.1);
  END LOOP;
END"""
            ),
            runs_outside_transaction=True,
        ),
        drop_routine("refresh_metrics"),
        Step(
            sql="UPDATE ledger.rollup_progress SET watermark = '-infinity'"
            f" WHERE source = {literal(target.series)}"
        ),
    ]


def _alter(name: str) -> str:
    return block(
        f"""BEGIN
  EXECUTE format('ALTER %%s ledger.{name} SET (%%s)',
    CASE WHEN EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
                      WHERE view_schema = 'ledger' AND view_name = '{name}')
         THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, $options$%s$options$);
END"""
    )


@create.register(Columnstore)
def _(target: Columnstore, encoding: Percentiles) -> list[Step]:
    options = (
        "timescaledb.enable_columnstore = true,"
        f" timescaledb.segmentby = '{target.segment_by}',"
        f" timescaledb.orderby = '{target.order_by}'"
    )
    return [
        Step(sql=_alter(target.name) % options),
        Step(sql=f"CALL remove_columnstore_policy('ledger.{target.name}', if_exists => true)"),
        Step(
            sql=f"CALL add_columnstore_policy('ledger.{target.name}',"
            f" after => {interval(target.after)})"
        ),
    ]


@drop.register(Columnstore)
def _(target: Columnstore, encoding: Percentiles) -> list[Step]:
    relation = literal(f"ledger.{target.name}")
    return [
        Step(sql=f"CALL remove_columnstore_policy({relation}, if_exists => true)"),
        Step(
            sql=f"SELECT decompress_chunk(c, true) FROM show_chunks({relation}) AS c",
        ),
        Step(sql=_alter(target.name) % "timescaledb.enable_columnstore = false"),
    ]


@create.register(Retention)
def _(target: Retention, encoding: Percentiles) -> list[Step]:
    relation = literal(f"ledger.{target.name}")
    return [
        *common.record_wish(target),
        Step(sql=f"SELECT remove_retention_policy({relation}, if_exists => true)"),
        Step(
            sql=f"SELECT add_retention_policy({relation}, {interval(target.keep)},"
            " schedule_interval => INTERVAL '1 hour')"
        ),
    ]


@drop.register(Retention)
def _(target: Retention, encoding: Percentiles) -> list[Step]:
    relation = literal(f"ledger.{target.name}")
    return [
        Step(sql=f"SELECT remove_retention_policy({relation}, if_exists => true)"),
        common.forget_wish(target.name),
    ]


_JOBS = "SELECT count(*) = 1 FROM timescaledb_information.jobs WHERE scheduled AND "


@facts.register(TimeSeries)
def _(target: TimeSeries, encoding: Percentiles) -> list[Fact]:
    return [
        Holds(
            query="SELECT time_interval = "
            + interval(target.chunk)
            + " FROM timescaledb_information.dimensions WHERE hypertable_schema = 'ledger'"
            f" AND hypertable_name = {literal(target.name)}"
            f" AND column_name = {literal(target.time_column)}",
            otherwise=f"{target.name} is not a hypertable of chunks of {target.chunk}",
        ),
        ChunksHaveIndexes(table=target.name),
    ]


@facts.register(Rollup)
def _(target: Rollup, encoding: Percentiles) -> list[Fact]:
    index = f"{target.name}_user_id_bucket_idx"
    return [
        AggregateIs(name=target.name, query=aggregate(target, encoding)),
        Holds(
            query="SELECT indisvalid FROM pg_index"
            f" WHERE indexrelid = to_regclass('_timescaledb_internal.{index}')",
            otherwise=f"index {index} is missing or INVALID",
        ),
    ]


@facts.register(Refresh)
def _(target: Refresh, encoding: Percentiles) -> list[Fact]:
    routines = tuple(refresh_procedure(target, options=options) for options in (OPTIONS, ""))
    return [
        RoutineIs(accepted=routines),
        Holds(
            query=f"{_JOBS} proc_schema = 'ledger' AND proc_name = 'refresh_metrics'"
            f" AND schedule_interval = {interval(target.every)}",
            otherwise=f"the job that refreshes the rollups every {target.every} is missing,"
            " paused, or has another schedule",
        ),
        Holds(
            # A policy of somebody's own would refresh in batches, newest first.
            query="SELECT count(*) = 0 FROM timescaledb_information.jobs j WHERE proc_name ="
            " 'policy_refresh_continuous_aggregate' AND hypertable_schema = 'ledger'",
            otherwise="a refresh policy stands beside our job: remove it, reads are wrong while"
            " it runs newest first",
        ),
    ]


@facts.register(Columnstore)
def _(target: Columnstore, encoding: Percentiles) -> list[Fact]:
    return [
        Holds(
            query=f"{_JOBS} proc_name IN ('policy_compression', 'policy_columnstore')"
            f" AND (config ->> 'compress_after')::interval = {interval(target.after)}"
            f" AND {_about(target.name)}",
            otherwise=f"the columnstore policy of {target.name} is missing, paused or changed",
        ),
    ]


@facts.register(Retention)
def _(target: Retention, encoding: Percentiles) -> list[Fact]:
    return [
        common.has_wish(target),
        Holds(
            query=f"{_JOBS} proc_name = 'policy_retention' AND {_about(target.name)}"
            " AND (config ->> 'drop_after')::interval ="
            f" (SELECT (retention ->> {literal(target.name)})::interval FROM ledger.installation)",
            otherwise=f"the retention policy of {target.name} is missing, paused, or is not what"
            " ledger.installation says; `ledger retention set` makes them agree",
        ),
    ]


def _about(name: str) -> str:
    return (
        "hypertable_schema || '.' || hypertable_name IN ("
        f"'ledger.{name}', (SELECT materialization_hypertable_schema || '.' ||"
        " materialization_hypertable_name FROM timescaledb_information.continuous_aggregates"
        f" WHERE view_schema = 'ledger' AND view_name = '{name}'))"
    )
