"""Plain PostgreSQL's rollups: tables, how they are made anew, views up to the latest row."""

from __future__ import annotations

from ledger.ddl.aggregates import EPOCH, aggregate_sql, bucket_sql, column_names
from ledger.ddl.objects import Rollup, Routine
from ledger.ddl.rendering import Rendering
from ledger.ddl.search_path import FIXED
from ledger.ddl.steps import literal
from ledger.models.base import Money


def rollup_table(rollup: Rollup, rendering: Rendering) -> tuple[str, str]:
    """The statements that make the materialised part and its index by time."""
    table = f"ledger.{rollup.name}_materialized"
    money = f"numeric({Money.precision},{Money.scale})"
    measures = ", ".join(
        f"{name} {money if name == 'cost_usd' else 'bigint'} NOT NULL"
        for name, _ in rollup.measures
    )
    sketch = f"{rendering.toolkit}.uddsketch" if rendering.is_of_sketches else "integer[]"
    return (
        (
            f"CREATE TABLE IF NOT EXISTS {table} (bucket timestamptz NOT NULL,"
            f" user_id uuid NOT NULL, provider text NOT NULL, model text NOT NULL, {measures},"
            f" latency_sketch {sketch} NOT NULL, CONSTRAINT {rollup.name}_materialized_pkey"
            f" PRIMARY KEY (user_id, bucket, provider, model))"
        ),
        f"CREATE INDEX IF NOT EXISTS {rollup.name}_materialized_bucket_idx ON {table} (bucket)",
    )


def rebuild(rollup: Rollup, rendering: Rendering) -> Routine:
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
        f" {aggregate_sql(rollup, bucket_sql(rollup), rows, rendering)}"
        # A user's rows lie together: a week was read from 350 pages instead of 3,400.
        " ORDER BY user_id, bucket"
    )
    return Routine(
        name=f"rebuild_{rollup.name}",
        arguments=f"hours timestamptz[], users uuid[], source regclass DEFAULT '{source}'",
        definition=f"""RETURNS void LANGUAGE plpgsql
{FIXED} AS $function$
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


def live_view(rollup: Rollup, rendering: Rendering) -> str:
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
{aggregate_sql(rollup, bucket, recent, rendering)}
UNION ALL
{aggregate_sql(rollup, bucket, late, rendering)}"""
