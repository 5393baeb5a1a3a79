"""Plain PostgreSQL's rollups: tables, the log of what was touched, views up to the latest row."""

from __future__ import annotations

from ledger.ddl import common
from ledger.ddl.aggregates import EPOCH, aggregate_sql, bucket_sql, column_names
from ledger.ddl.objects import Refresh, Rollup, Routine
from ledger.ddl.routines import drop_routine
from ledger.ddl.steps import Step, literal
from ledger.models.base import Money
from ledger.settings import Percentiles

REFRESH_LOCK = 5_202_611_210_001
"""Key of the advisory transaction lock under which rollups are rebuilt."""


def rollup_table(rollup: Rollup, encoding: Percentiles) -> tuple[str, str]:
    """The statements that make the materialised part and its index by time."""
    table = f"ledger.{rollup.name}_materialized"
    money = f"numeric({Money.precision},{Money.scale})"
    measures = ", ".join(
        f"{name} {money if name == 'cost_usd' else 'bigint'} NOT NULL"
        for name, _ in rollup.measures
    )
    sketch = "uddsketch" if encoding is Percentiles.UDDSKETCH else "integer[]"
    return (
        (
            f"CREATE TABLE IF NOT EXISTS {table} (bucket timestamptz NOT NULL,"
            f" user_id uuid NOT NULL, provider text NOT NULL, model text NOT NULL, {measures},"
            f" latency_sketch {sketch} NOT NULL, CONSTRAINT {rollup.name}_materialized_pkey"
            f" PRIMARY KEY (user_id, bucket, provider, model))"
        ),
        f"CREATE INDEX IF NOT EXISTS {rollup.name}_materialized_bucket_idx ON {table} (bucket)",
    )


def rebuild(rollup: Rollup, encoding: Percentiles) -> Routine:
    """Makes the rollup's rows of some (hour, user) anew, whole, from ``source``.

    The source is an argument because a day that retention has detached is rebuilt from the
    detached table. Two statements: one CTE that deletes and inserts is a unique violation.
    OFFSET 0 keeps each pair an index scan, where a hash join by user read every hour of each;
    the bounds of all pairs are there so that the plan is made for their days alone.
    """
    table = f"ledger.{rollup.name}_materialized"
    source = f"ledger.{rollup.source}{'' if rollup.is_of_raw_rows else '_materialized'}"
    time = f's."{rollup.time_column}"'
    rows = (
        "unnest($1, $2) AS taken(taken_hour, taken_user), LATERAL (SELECT * FROM %1$s s"
        f" WHERE s.user_id = taken_user AND {time} >= taken_hour"
        f" AND {time} < taken_hour + INTERVAL '1 hour' AND {time} >= $3 AND {time} < $4"
        " OFFSET 0) AS s"
    )
    statement = (
        f"INSERT INTO {table} ({column_names(rollup)})"
        f" {aggregate_sql(rollup, bucket_sql(rollup), rows, encoding)}"
        # A user's rows lie together: a week was read from 350 pages instead of 3,400.
        " ORDER BY user_id, bucket"
    )
    return Routine(
        name=f"rebuild_{rollup.name}",
        arguments=f"hours timestamptz[], users uuid[], source regclass DEFAULT '{source}'",
        definition=f"""RETURNS void LANGUAGE plpgsql AS $function$
DECLARE
  first CONSTANT timestamptz := (SELECT min(hour) FROM unnest(hours) AS hour);
  last CONSTANT timestamptz := (SELECT max(hour) + INTERVAL '1 hour' FROM unnest(hours) AS hour);
BEGIN
  DELETE FROM {table} m USING unnest(hours, users) AS taken(taken_hour, taken_user)
  WHERE m.user_id = taken_user AND m.bucket >= taken_hour
        AND m.bucket < taken_hour + INTERVAL '1 hour';
  EXECUTE format($statement$
{statement}
  $statement$, source) USING hours, users, first, last;
END
$function$""",
    )


def live_view(rollup: Rollup, encoding: Percentiles) -> str:
    """The rollup as it stands this moment.

    Materialised where nothing was touched since; made from its source where it was, and after
    the watermark.
    """
    names, bucket = column_names(rollup), bucket_sql(rollup)
    series = rollup.series
    time = f's."{rollup.time_column}"'
    progress = f"(SELECT * FROM ledger.rollup_progress WHERE source = {literal(series)})"
    hour = f"date_bin('1 hour', m.bucket, {EPOCH})"
    touched = (
        f"SELECT DISTINCT t.hour, t.user_id AS touched_user FROM ledger.{series}_touched t,"
        f" {progress} p WHERE t.hour < p.watermark AND t.hour >= p.raw_from"
    )
    recent = f"ledger.{rollup.source} s WHERE {time} >= (SELECT p.watermark FROM {progress} p)"
    late = (
        f"({touched}) AS touched JOIN ledger.{rollup.source} s ON s.user_id = touched_user"
        f" AND {time} >= touched.hour AND {time} < touched.hour + INTERVAL '1 hour'"
    )
    return f"""SELECT {names} FROM ledger.{rollup.name}_materialized m
WHERE m.bucket < (SELECT p.watermark FROM {progress} p)
  AND NOT EXISTS (SELECT FROM ledger.{series}_touched t, {progress} p
                  WHERE t.hour = {hour} AND t.user_id = m.user_id AND t.hour >= p.raw_from)
UNION ALL
{aggregate_sql(rollup, bucket, recent, encoding)}
UNION ALL
{aggregate_sql(rollup, bucket, late, encoding)}"""


def touch_log_table(series: str) -> tuple[str, str]:
    """The statements that make the log of hours whose rollups are older than their rows."""
    log = f"ledger.{series}_touched"
    return (
        (
            f"CREATE TABLE IF NOT EXISTS {log} (hour timestamptz NOT NULL, user_id uuid NOT NULL)"
            " WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0)"
        ),
        f"CREATE INDEX IF NOT EXISTS {series}_touched_idx ON {log} (hour, user_id)",
    )


def touch_log_triggers(series: str) -> dict[str, tuple[str, Routine]]:
    """By event, the transition tables and the function of the trigger that writes the log.

    Statement triggers with a transition table: one insert into the log a statement, however
    many rows. SECURITY DEFINER, so that a writer needs no right on the log. Every change is
    logged, below the watermark or not: a writer that is open while the watermark moves would
    be lost otherwise.
    """
    hour = f"date_bin('1 hour', \"timestamp\", {EPOCH})"

    def logs(name: str, pairs: str) -> Routine:
        return Routine(
            name=name,
            arguments="",
            definition=f"""RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  INSERT INTO ledger.{series}_touched (hour, user_id) {pairs};
  RETURN NULL;
END
$function$""",
        )

    touched = logs(f"log_{series}_touched", f"SELECT DISTINCT {hour}, user_id FROM changed")
    moved = logs(
        f"log_{series}_updated",
        f"SELECT {hour}, user_id FROM before UNION SELECT {hour}, user_id FROM after",
    )
    return {
        "insert": ("NEW TABLE AS changed", touched),
        "delete": ("OLD TABLE AS changed", touched),
        "update": ("OLD TABLE AS before NEW TABLE AS after", moved),
    }


def touch_log_trigger(series: str, event: str) -> str:
    """The statement that makes the trigger of an event."""
    tables, routine = touch_log_triggers(series)[event]
    return (
        f"CREATE OR REPLACE TRIGGER {series}_touched_by_{event} AFTER {event.upper()}"
        f" ON ledger.{series} REFERENCING {tables} FOR EACH STATEMENT"
        f" EXECUTE FUNCTION ledger.{routine.name}()"
    )


def touch_log(series: str) -> list[Step]:
    """Make the log, have it written, and enter the rows that were there before it."""
    triggers = touch_log_triggers(series)
    hour = f"date_bin('1 hour', \"timestamp\", {EPOCH})"
    return [
        *(Step(sql=statement) for statement in touch_log_table(series)),
        *(step for _, routine in triggers.values() for step in common.make_routine(routine)),
        *(Step(sql=touch_log_trigger(series, event)) for event in triggers),
        Step(
            sql=f"INSERT INTO ledger.{series}_touched (hour, user_id)"
            f" SELECT DISTINCT {hour}, user_id FROM ledger.{series}"
        ),
    ]


def drop_touch_log(series: str) -> list[Step]:
    """Take the triggers, their functions and the log away."""
    triggers = touch_log_triggers(series)
    names = dict.fromkeys(routine.name for _, routine in triggers.values())
    return [
        *(
            Step(sql=f"DROP TRIGGER IF EXISTS {series}_touched_by_{event} ON ledger.{series}")
            for event in triggers
        ),
        *(drop_routine(name) for name in names),
        Step(sql=f"DROP TABLE IF EXISTS ledger.{series}_touched"),
    ]


def refresh_routines(refresh: Refresh) -> tuple[Routine, Routine]:
    """`refresh_metrics`, which rebuilds what was touched, and `retire_day`, its last time.

    That is for a day that retention has detached.

    The log is taken first and the hours rebuilt after it, in statements of their own, so that
    a row that arrives meanwhile is either in the rebuilt hour or still in the log. The lock is
    taken before the first snapshot that matters. Source of the order: findings on lost rows
    when it is the other way round.
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
    settle = f"INTERVAL '{common.seconds(refresh.settle)} seconds'"
    take = (
        f"WITH taken AS (DELETE FROM {log} WHERE {{condition}} RETURNING hour, user_id)\n"
        "  SELECT array_agg(hour), array_agg(user_id) INTO hours_taken, users_taken\n"
        "  FROM (SELECT DISTINCT hour, user_id FROM taken) AS pairs"
    )
    return (
        Routine(
            name="refresh_metrics",
            arguments="hours integer DEFAULT 24",
            definition=f"""RETURNS integer LANGUAGE plpgsql AS $function$
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
            definition=f"""RETURNS void LANGUAGE plpgsql AS $function$
DECLARE
  detached CONSTANT regclass := format('ledger.%I', partition)::regclass;
  day CONSTANT timestamptz :=
    to_date(right(partition, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC';
  hours_taken timestamptz[];
  users_taken uuid[];
BEGIN
  IF (SELECT relispartition FROM pg_class WHERE oid = detached) THEN
    RAISE EXCEPTION USING ERRCODE = 'LG004', MESSAGE = format('%s is still attached', partition);
  END IF;
  PERFORM pg_advisory_xact_lock({REFRESH_LOCK});
  {take.format(condition="hour >= day AND hour < day + INTERVAL '1 day'")};
  IF hours_taken IS NOT NULL THEN
  {retire_all}
  END IF;
  EXECUTE format('DROP TABLE %s', detached);
END
$function$""",
        ),
    )
