"""Plain PostgreSQL's time series: a table partitioned by day, and the days made on demand."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ledger.ddl.objects import Routine
from ledger.ddl.portable import progress_rows
from ledger.ddl.routines import drop_routine, make_routine
from ledger.ddl.search_path import FIXED
from ledger.ddl.steps import Step, block, literal

if TYPE_CHECKING:
    from ledger.ddl.objects import CoveringIndex, TimeSeries

DAYS_AHEAD = 8
_DAY = timedelta(days=1)


def ensure_days(series: TimeSeries) -> Routine:
    """Makes the partitions of some days that are missing, and says how many it made.

    LIKE and ATTACH take a lock that lets readers and writers on; PARTITION OF would stand
    behind one idle reader, and everybody behind it. The lock comes first and each day is
    tested again under it: eight racers over 20 days made 134-140 errors otherwise.
    """
    table = f"ledger.{series.name}"
    return Routine(
        name="ensure_days",
        arguments="days date[]",
        definition=f"""RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
{FIXED} AS $function$
DECLARE
  first CONSTANT date := (ledger.raw_from() AT TIME ZONE 'UTC')::date;
  last CONSTANT date := (now() AT TIME ZONE 'UTC')::date + {DAYS_AHEAD};
  missing date[];
  missing_day date;
  partition text;
  made integer := 0;
BEGIN
  SELECT array_agg(DISTINCT day ORDER BY day) INTO missing FROM unnest(days) AS day
  WHERE pg_partition_root(to_regclass(format('{table}_p%s', to_char(day, 'YYYYMMDD'))))
        IS DISTINCT FROM '{table}'::regclass;
  IF missing IS NULL THEN
    RETURN 0;
  END IF;
  IF missing[1] < first OR missing[cardinality(missing)] > last THEN
    RAISE EXCEPTION USING ERRCODE = 'LG005', MESSAGE = format(
      'days %s to %s are outside what is kept, %s to %s', missing[1],
      missing[cardinality(missing)], first, last);
  END IF;
  LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE;
  FOREACH missing_day IN ARRAY missing LOOP
    partition := format('{series.name}_p%s', to_char(missing_day, 'YYYYMMDD'));
    CONTINUE WHEN pg_partition_root(to_regclass('ledger.' || partition))
                  IS NOT DISTINCT FROM '{table}'::regclass;
    EXECUTE format('CREATE TABLE ledger.%I (LIKE {table} INCLUDING ALL)', partition);
    EXECUTE format('ALTER TABLE {table} ATTACH PARTITION ledger.%I FOR VALUES FROM (%L) TO (%L)',
                   partition, missing_day::timestamp AT TIME ZONE 'UTC',
                   (missing_day + 1)::timestamp AT TIME ZONE 'UTC');
    made := made + 1;
  END LOOP;
  RETURN made;
END
$function$""",
    )


def create_time_series(series: TimeSeries) -> list[Step]:
    """Make the empty table a partitioned one, as create_hypertable does on the other storage."""
    assert series.chunk == _DAY, "partitions are days"
    table, bare = f"ledger.{series.name}", series.name
    return [
        Step(
            sql=block(
                f"""BEGIN
  IF (SELECT relkind FROM pg_class WHERE oid = '{table}'::regclass) = 'r' THEN
    IF EXISTS (SELECT FROM {table}) THEN
      RAISE EXCEPTION USING ERRCODE = 'LG004',
        MESSAGE = '{table} holds rows and is not partitioned';
    END IF;
    CREATE TABLE {table}_partitioned (LIKE {table} INCLUDING ALL)
      PARTITION BY RANGE ("{series.time_column}");
    DROP TABLE {table};
    ALTER TABLE {table}_partitioned RENAME TO {bare};
    ALTER TABLE {table} RENAME CONSTRAINT {bare}_partitioned_pkey TO {bare}_pkey;
  END IF;
END"""
            )
        ),
        *progress_rows(bare),
        *make_routine(ensure_days(series)),
    ]


def drop_time_series(name: str) -> list[Step]:
    """What stands beside the table goes; the table itself is the revision's to drop."""
    return [
        drop_routine("ensure_days"),
        Step(sql=f"DELETE FROM ledger.rollup_progress WHERE source = {literal(name)}"),
    ]


def create_index(index: CoveringIndex) -> list[Step]:
    """Build the index on each partition concurrently, then attach; what failed before, anew.

    A build that failed leaves an INVALID index, which IF NOT EXISTS would keep.
    """
    table = f"ledger.{index.table}"
    where = f" WHERE {index.where}" if index.where else ""
    shape = f"USING {index.using} ({', '.join(index.columns)}){where}"
    suffix = literal(_suffix(index))
    partitions = (
        f"SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || {suffix}) AS index_name"
        f" FROM pg_partition_tree('{table}') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf"
        " AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid"
        f" WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.{index.name}'::regclass)"
    )

    def outside(sql: str, *, is_patient: bool) -> Step:
        return Step(
            sql=sql, runs_outside_transaction=True, is_generator=True, is_patient=is_patient
        )

    return [
        # Validated by attaching: one whose last missing day was dropped meanwhile stays INVALID.
        outside(
            f"SELECT 'DROP INDEX ledger.{index.name}' FROM pg_index i"
            f" WHERE i.indexrelid = to_regclass('ledger.{index.name}') AND NOT i.indisvalid"
            f" AND NOT EXISTS (SELECT FROM pg_partition_tree('{table}') t WHERE t.isleaf"
            " AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h"
            " ON h.inhrelid = p.indexrelid WHERE p.indrelid = t.relid"
            " AND h.inhparent = i.indexrelid))",
            is_patient=False,
        ),
        Step(
            sql=f"CREATE INDEX IF NOT EXISTS {index.name} ON ONLY {table} {shape}",
            runs_outside_transaction=True,
        ),
        outside(
            f"SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ' || index_name FROM ({partitions}) p"
            " WHERE to_regclass(index_name) IS NOT NULL AND NOT (SELECT indisvalid FROM pg_index"
            " WHERE indexrelid = to_regclass(index_name))",
            is_patient=True,
        ),
        outside(
            f"SELECT 'CREATE INDEX CONCURRENTLY IF NOT EXISTS ' || split_part(index_name, '.', 2)"
            f" || ' ON ledger.' || quote_ident(relname) || {literal(' ' + shape)}"
            f" FROM ({partitions}) p",
            is_patient=True,
        ),
        outside(
            f"SELECT 'ALTER INDEX ledger.{index.name} ATTACH PARTITION ' || index_name"
            f" FROM ({partitions}) p",
            is_patient=False,
        ),
    ]


def _suffix(index: CoveringIndex) -> str:
    return index.name.removeprefix(f"{index.table}_")
