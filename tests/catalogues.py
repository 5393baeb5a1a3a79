"""What a database holds, seen from outside: its catalogues, its books, who waits for whom."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
from sqlalchemy import make_url

from ledger.models.telemetry import HOUR_ROLLUP, MINUTE_ROLLUP
from tests.databases import Target
from tests.servers import libpq

LEVELS = {MINUTE_ROLLUP: "minute", HOUR_ROLLUP: "hour"}
REQUESTS = 600

MANY_REQUESTS = f"""
INSERT INTO ledger.llm_requests (user_id, "timestamp", id, provider, model, latency_ms,
  input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd,
  http_status_code, is_streaming, attributes)
SELECT ('5e0b7c3a-0000-4000-8000-00000000000' || n % 3)::uuid, at,
  (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
   || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
  'openai', 'gpt-' || n % 2, 100 + n, n, n, 0, 0, 0, CASE WHEN n % 7 = 0 THEN NULL ELSE n * 0.001
  END, CASE WHEN n % 11 = 0 THEN 429 ELSE 200 END, false, '{{}}'
FROM (SELECT n, date_trunc('milliseconds', now() - INTERVAL '2 hours' - n * INTERVAL '19 minutes')
      AS at FROM generate_series(1, {REQUESTS}) AS n) AS calls"""
"""Eight days of calls, the last of them in an hour that is closed."""

ENSURE_DAYS = """
SELECT ledger.ensure_days(ARRAY(
  SELECT day::date FROM generate_series(now() - INTERVAL '12 days', now(), '1 day') AS day))"""


def connect(url: str, *, autocommit: bool = True) -> psycopg.Connection[Any]:
    return psycopg.connect(libpq(make_url(url)), autocommit=autocommit)


def sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """The rows of the last of these statements, each in a transaction of its own."""
    with connect(url) as connection:
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            cursor = connection.execute(statement.encode())
            # Not its truth: SELECT without columns has rows, and an empty description.
            rows = cursor.fetchall() if cursor.description is not None else []
    return rows


def record_requests(url: str, target: Target) -> None:
    """Many calls, by plain SQL: also at a revision that the repositories do not know."""
    if target.storage == "postgres":
        sql(url, ENSURE_DAYS)
    sql(url, MANY_REQUESTS)


def refresh(url: str, target: Target) -> None:
    """Roll up all that can be."""
    if target.storage == "timescale":
        stop_jobs(url)
        until(lambda: _is_refreshed(url), "a refresh beside no other")
        return
    while sql(url, "SELECT ledger.refresh_metrics()") != [(0,)]:
        pass


def _is_refreshed(url: str) -> bool:
    """Whether the refresh went through; a job that was running already may be in its way."""
    try:
        sql(url, "CALL ledger.refresh_metrics()")
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def stop_jobs(url: str) -> None:
    """End the scheduler that CREATE EXTENSION starts.

    One that ends with its database wakes the launcher, which then finds the next test's
    database and gives it a scheduler, and so on.
    """
    if sql(url, "SELECT FROM pg_extension WHERE extname = 'timescaledb'"):
        sql(url, "SELECT _timescaledb_functions.stop_background_workers()")


def recounted(url: str, grain: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What a rollup of that grain must say of the raw rows, counted one by one."""
    books: dict[tuple[Any, ...], list[Any]] = defaultdict(lambda: [0, 0, 0, 0, Decimal(0), 0, 0])
    rows = sql(
        url,
        f"SELECT date_trunc('{grain}', \"timestamp\", 'UTC'), user_id, provider, model,"
        " http_status_code, input_tokens, cost_usd, latency_ms FROM ledger.llm_requests",
    )
    for *key, status, tokens, cost, latency in rows:
        row = books[tuple(key)]
        row[0] += 1
        row[1] += status >= 400
        row[2] += status == 429
        row[3] += tokens
        row[4] += cost or 0
        row[5] += cost is None
        row[6] += latency
    return {key: tuple(row) for key, row in books.items()}


def rolled_up(url: str, level: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What the rollup says."""
    rows = sql(
        url,
        "SELECT bucket, user_id, provider, model, requests, errors, rate_limited, input_tokens,"
        f" cost_usd, unpriced_requests, latency_sum_ms FROM ledger.{level}",
    )
    books = {row[:4]: row[4:] for row in rows}
    assert len(books) == len(rows)
    return books


def until(condition: Callable[[], bool], what: str, *, seconds: float = 30) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in {seconds} s not seen: {what}"
        time.sleep(0.02)


def is_waiting_for_a_lock(url: str, query: str = "") -> bool:
    """Whether a session of this database waits for a lock, with a statement that begins so."""
    rows = sql(
        url,
        "SELECT FROM pg_stat_activity WHERE datname = current_database()"
        f" AND wait_event_type = 'Lock' AND query LIKE '{query}%'",
    )
    return bool(rows)


def snapshot(url: str) -> set[tuple[str, str]]:
    """Every relation, routine, type, constraint, trigger and schema that no extension brought.

    With TimescaleDB its own books too: hypertables, aggregates, jobs, chunks, dimensions.
    """
    # Names are written with their schema where the search path has none.
    found = {(kind, name) for kind, name in sql(url, "SET search_path = pg_catalog", _OBJECTS)}
    if sql(url, "SELECT FROM pg_extension WHERE extname = 'timescaledb'"):
        found |= {(kind, name) for kind, name in sql(url, _TIMESCALE)}
    return found


def _unless_of_extension(catalogue: str, oid: str) -> str:
    return (
        f"NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{catalogue}'::regclass"
        f" AND d.objid = {oid} AND d.deptype = 'e')"
    )


_OURS = (
    "SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'"
    " OR nspname = 'pg_catalog'"
)
_OBJECTS = f"""
SELECT 'relation ' || relkind::text, oid::regclass::text FROM pg_class c
WHERE relnamespace IN ({_OURS}) AND c.oid >= 16384 AND {_unless_of_extension("pg_class", "c.oid")}
UNION ALL
SELECT 'routine', oid::regprocedure::text FROM pg_proc p
WHERE pronamespace IN ({_OURS}) AND p.oid >= 16384 AND {_unless_of_extension("pg_proc", "p.oid")}
UNION ALL
SELECT 'type', oid::regtype::text FROM pg_type t
WHERE typnamespace IN ({_OURS}) AND t.oid >= 16384 AND typcategory <> 'A'
  AND {_unless_of_extension("pg_type", "t.oid")}
  AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = typrelid
                  AND NOT {_unless_of_extension("pg_class", "c.oid")})
UNION ALL
SELECT 'constraint', conrelid::regclass::text || ' ' || conname FROM pg_constraint n
JOIN pg_class c ON c.oid = conrelid
WHERE n.oid >= 16384 AND {_unless_of_extension("pg_class", "c.oid")}
UNION ALL
SELECT 'trigger', tgrelid::regclass::text || ' ' || tgname FROM pg_trigger g
JOIN pg_class c ON c.oid = tgrelid
WHERE {_unless_of_extension("pg_class", "c.oid")}
UNION ALL
SELECT 'schema', nspname FROM pg_namespace n WHERE n.oid >= 16384 AND nspname !~ '^pg_'
  AND {_unless_of_extension("pg_namespace", "n.oid")}"""

_TIMESCALE = """
SELECT 'hypertable', hypertable_schema || '.' || hypertable_name
FROM timescaledb_information.hypertables
UNION ALL
SELECT 'aggregate', view_name FROM timescaledb_information.continuous_aggregates
UNION ALL
SELECT 'job', proc_name || coalesce(' ' || hypertable_name, '') FROM timescaledb_information.jobs
UNION ALL
SELECT 'catalogue', 'chunks ' || count(*) FROM _timescaledb_catalog.chunk
UNION ALL
SELECT 'catalogue', 'dimensions ' || count(*) FROM _timescaledb_catalog.dimension"""
