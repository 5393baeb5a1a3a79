"""Plain PostgreSQL's refresh: what was touched is rolled up anew, a retired day once more."""

from __future__ import annotations

from ledger.ddl.aggregates import EPOCH
from ledger.ddl.objects import Refresh, Routine
from ledger.ddl.search_path import FIXED
from ledger.ddl.steps import literal, seconds

REFRESH_LOCK = 5_202_611_210_001
"""Key of the advisory transaction lock under which rollups are rebuilt."""


def refresh_routines(refresh: Refresh) -> tuple[Routine, Routine]:
    """`refresh_metrics`, which rebuilds what was touched, and `retire_day`, its last time.

    That is for a day that retention has detached.

    The log is taken first and the hours rebuilt after it, in statements of their own, so that
    a row that arrives meanwhile is either in the rebuilt hour or still in the log. The lock is
    taken before the first snapshot that matters. Source of the order: findings on lost rows
    when it is the other way round.

    `retire_day` looks at the table once it holds it: until then it may be attached again, or
    dropped and made anew by another. And not in pg_class, where an old snapshot sees it as it
    was. It is for a day that the horizon has passed, as no hour of it must be rebuilt after.
    """
    log, series = f"ledger.{refresh.series}_touched", literal(refresh.series)
    rebuild_all = "\n  ".join(
        f"PERFORM ledger.rebuild_{name}(hours_taken, users_taken);" for name in refresh.rollups
    )
    first, *coarser = refresh.rollups
    retire_all = "\n  ".join(
        [
            f"PERFORM ledger.rebuild_{first}(hours_taken, users_taken, detached);",
            *(f"PERFORM ledger.rebuild_{name}(hours_taken, users_taken);" for name in coarser),
        ]
    )
    settle = f"INTERVAL '{seconds(refresh.settle)} seconds'"
    take = (
        f"WITH taken AS (DELETE FROM {log} WHERE {{condition}} RETURNING hour, user_id)\n"
        "  SELECT array_agg(hour), array_agg(user_id) INTO hours_taken, users_taken\n"
        "  FROM (SELECT DISTINCT hour, user_id FROM taken) AS pairs"
    )
    return (
        Routine(
            name="refresh_metrics",
            arguments="hours integer DEFAULT 24",
            definition=f"""RETURNS integer LANGUAGE plpgsql
{FIXED} AS $function$
DECLARE
  closed CONSTANT timestamptz := date_bin('1 hour', now() - {settle}, {EPOCH});
  horizon timestamptz;
  rebuilt_to timestamptz;
  hours_taken timestamptz[];
  users_taken uuid[];
  waiting integer;
BEGIN
  IF NOT pg_try_advisory_xact_lock({REFRESH_LOCK}) THEN
    RETURN -1;
  END IF;
  SELECT raw_from INTO horizon FROM ledger.rollup_progress WHERE source = {series};
  SELECT max(hour) + INTERVAL '1 hour' INTO rebuilt_to FROM (
    SELECT DISTINCT hour FROM {log} WHERE hour >= horizon AND hour < closed
    ORDER BY hour LIMIT hours) AS oldest;
  IF rebuilt_to IS NOT NULL THEN
  {take.format(condition="hour >= horizon AND hour < rebuilt_to")};
  {rebuild_all}
  END IF;
  SELECT count(*) INTO waiting FROM (
    SELECT DISTINCT hour, user_id FROM {log} WHERE hour >= horizon AND hour < closed) AS pairs;
  UPDATE ledger.rollup_progress
  SET watermark = greatest(watermark, CASE WHEN waiting = 0 THEN closed ELSE rebuilt_to END)
  WHERE source = {series};
  RETURN waiting;
END
$function$""",
        ),
        Routine(
            name="retire_day",
            arguments="partition text",
            definition=f"""RETURNS void LANGUAGE plpgsql
{FIXED} AS $function$
DECLARE
  detached regclass;
  day CONSTANT timestamptz :=
    to_date(right(partition, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC';
  hours_taken timestamptz[];
  users_taken uuid[];
BEGIN
  PERFORM pg_advisory_xact_lock({REFRESH_LOCK});
  EXECUTE format('LOCK TABLE ONLY ledger.%I IN SHARE MODE', partition);
  detached := format('ledger.%I', partition)::regclass;
  IF pg_partition_root(detached) IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'LG004', MESSAGE = format('%s is still attached', partition);
  END IF;
  IF (SELECT raw_from FROM ledger.rollup_progress WHERE source = {series})
     < day + INTERVAL '1 day' THEN
    RAISE EXCEPTION USING ERRCODE = 'LG004', MESSAGE = format(
      'rows of the day of %s are still accepted and rolled up', partition);
  END IF;
  {take.format(condition="hour >= day AND hour < day + INTERVAL '1 day'")};
  IF hours_taken IS NOT NULL THEN
  {retire_all}
  END IF;
  EXECUTE format('DROP TABLE %s', detached);
END
$function$""",
        ),
    )
