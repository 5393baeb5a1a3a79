"""The SQL of TimescaleDB's continuous aggregates, and of the procedure that refreshes them."""

from __future__ import annotations

from ledger.ddl.aggregates import EPOCH, aggregate_sql
from ledger.ddl.objects import Refresh, Rollup, Routine
from ledger.ddl.rendering import Rendering
from ledger.ddl.routines import create_routine, drop_routine
from ledger.ddl.search_path import FIX
from ledger.ddl.steps import Step, block, interval, literal, seconds

_REFRESH_ARGUMENTS = "job_id integer DEFAULT 0, config jsonb DEFAULT '{}'"


def aggregate(rollup: Rollup, rendering: Rendering) -> str:
    """The continuous aggregate's SELECT."""
    interval_sql = f"INTERVAL '{seconds(rollup.bucket)} seconds'"
    bucket = f'{rendering.timescaledb}.time_bucket({interval_sql}, "{rollup.time_column}")'
    return aggregate_sql(rollup, bucket, f"ledger.{rollup.source}", rendering)


def refresh_procedure(refresh: Refresh, rendering: Rendering, *, options: str) -> Routine:
    """`refresh_metrics`: every level in order, oldest first in one batch, then the watermark.

    It begins an hour before the horizon, whose chunk is still there: a row accepted at the
    horizon is refreshed although the horizon has moved on meanwhile.

    The default order, newest first, moves an aggregate's own watermark past buckets that are
    still empty, and every read meanwhile is wrong. Never below `raw_from`: a refresh where
    raw rows are gone erases what was rolled up from them. The watermark is our own row, as
    `cagg_watermark()` is not consistent within a statement while a refresh commits.

    The search path is fixed anew after each commit; what is declared is read before.

    Groups are sorted, not hashed: a user's rows of an hour then lie together, and a week is read
    from 540 pages where hashing left them on 3,900. For the session, as the refreshes commit on
    their way; one that fails in the middle leaves it so.
    """
    calls = "\n  ".join(
        f"""CALL {rendering.timescaledb}.refresh_continuous_aggregate(
    'ledger.{name}', low, high{options});
  COMMIT;
  {FIX}"""
        for name in refresh.rollups
    )
    return Routine(
        name="refresh_metrics",
        arguments=_REFRESH_ARGUMENTS,
        definition=f"""LANGUAGE plpgsql AS $procedure$
DECLARE
  low timestamp with time zone;
  high timestamp with time zone;
  was_hashing CONSTANT pg_catalog.text := pg_catalog.current_setting('enable_hashagg');
BEGIN
  {FIX}
  low := nullif(ledger.raw_from(), '-infinity') - INTERVAL '1 hour';
  high := date_bin('1 hour',
    now() - INTERVAL '{seconds(refresh.settle)} seconds', {EPOCH});
  IF low >= high THEN
    RETURN;
  END IF;
  PERFORM set_config('enable_hashagg', 'off', false);
  {calls}
  PERFORM set_config('enable_hashagg', was_hashing, false);
  UPDATE ledger.rollup_progress SET watermark = high
  WHERE source = {literal(refresh.series)} AND watermark < high;
END
$procedure$""",
    )


OPTIONS = """, options => '{"buckets_per_batch": 0, "refresh_newest_first": false}'"""


def start_refreshing(target: Refresh, rendering: Rendering) -> list[Step]:
    """Make the procedure and the job that calls it, or make them again as they should be."""
    api = rendering.timescaledb
    plain, ordered = (
        create_routine(refresh_procedure(target, rendering, options=options)).sql
        for options in ("", OPTIONS)
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
    PERFORM {api}.add_job('ledger.refresh_metrics', {interval(target.every)},
                          fixed_schedule => false);
  ELSE
    PERFORM {api}.alter_job(job_id, scheduled => true,
                            schedule_interval => {interval(target.every)})
    FROM timescaledb_information.jobs
    WHERE proc_schema = 'ledger' AND proc_name = 'refresh_metrics';
  END IF;
END"""
            )
        )
    ]


def stop_refreshing(target: Refresh, rendering: Rendering) -> list[Step]:
    """Take the job and the procedure away, once no refresh is under way."""
    return [
        Step(
            sql=f"SELECT {rendering.timescaledb}.delete_job(job_id)"
            " FROM timescaledb_information.jobs"
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
