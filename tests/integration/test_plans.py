"""Every index is used by what it stands for, and no read of one user's looks at others' rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from ledger.repositories.ledger import Ledger
from ledger.window import Window
from tests.books import Books, opened
from tests.databases import Databases, Target
from tests.plans import Plan, explained, explained_read
from tests.roles import roles_of
from tests.sent import sent_by_reads

pytestmark = pytest.mark.every_target

USERS = 200
USER = UUID(int=7)
DAYS = 8
BUSY_DAY = 2
"""How many days ago there were so many calls that a BRIN index has ranges to leave out."""

FILL = f"""
INSERT INTO ledger.llm_requests (user_id, "timestamp", id, provider, model, category, latency_ms,
  input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd,
  http_status_code, error_message, is_streaming, attributes)
SELECT (lpad(to_hex(mod(n, {USERS})), 32, '0'))::uuid, at,
  (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
   || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
  'provider-' || mod(n, 3), 'model-' || mod(n, 41),
  CASE WHEN mod(n, 10) = 0 THEN 'category-' || mod(n, 70) END,
  mod(n, 900), 10, 5, 0, 0, 0, 0.001, CASE WHEN mod(n, 97) = 0 THEN 503 ELSE 200 END,
  repeat('x', 100), false, '{{}}'
FROM (SELECT n, date_trunc('milliseconds', %s::timestamptz + n * INTERVAL '24 hours' / %s) AS at
      FROM generate_series(1, %s) AS n) AS calls"""


@pytest.fixture(scope="module")
def filled(databases: Databases, target: Target) -> Iterator[Books]:
    """Books of some days and many users, rolled up and analysed, which tests only read."""
    name = databases.create(target.server, template=databases.template(target))
    with opened(databases.url(target.server, name), target) as books:
        fill(books)
        yield books
    databases.drop(name)


def fill(books: Books) -> None:
    with books.connect() as connection:
        if books.is_timescale:
            connection.execute("SELECT _timescaledb_functions.stop_background_workers()")
        else:
            connection.execute(
                "SELECT ledger.ensure_days(ARRAY(SELECT current_date - n"
                " FROM generate_series(0, %s) AS n))",
                [DAYS],
            )
        for ago in range(DAYS, 0, -1):
            calls = 40_000 if ago == BUSY_DAY else 2_500
            connection.execute(FILL.encode(), [books.day(ago=ago), calls, calls])
        books.ledger.maintenance.run()
        # Also summarises the BRIN index, as autovacuum would.
        connection.execute("VACUUM ANALYZE ledger.llm_requests")
        connection.execute("ANALYZE")


@pytest.fixture
def connection(filled: Books) -> Iterator[psycopg.Connection]:
    with filled.connect() as connection:
        yield connection


def uses(plan: Plan, books: Books, index: str) -> bool:
    """Whether a partition's or a chunk's part of the index was used, and no table read whole."""
    partitions = books.sql(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        f" WHERE inhparent = 'ledger.{index}'::regclass"
    )
    return not plan.read_in_full and any(
        (name,) in partitions or name.endswith(f"_{index}") for name in plan.indexes
    )


IN_A_DAY = '"timestamp" >= %s AND "timestamp" < %s'
LATEST = 'ORDER BY "timestamp" DESC LIMIT 20'


@pytest.mark.parametrize(
    "index, condition",
    [
        ("llm_requests_pkey", f'user_id = \'{USER}\' AND "timestamp" >= %s AND "timestamp" < %s'),
        (
            "llm_requests_model_idx",
            f"provider = 'provider-1' AND model = 'model-7' AND {IN_A_DAY} {LATEST}",
        ),
        (
            "llm_requests_category_idx",
            f'category = \'category-20\' AND "timestamp" >= %s AND "timestamp" < %s {LATEST}',
        ),
        (
            "llm_requests_errors_idx",
            f'http_status_code = 503 AND "timestamp" >= %s AND "timestamp" < %s {LATEST}',
        ),
    ],
    ids=["user", "provider and model", "category", "status"],
)
def test_each_index_is_used_by_the_question_it_stands_for(
    filled: Books, connection: psycopg.Connection, index: str, condition: str
) -> None:
    plan = explained(
        connection,
        f"SELECT id FROM ledger.llm_requests WHERE {condition}",
        filled.day(ago=BUSY_DAY),
        filled.day(ago=BUSY_DAY - 1),
    )

    assert uses(plan, filled, index), str(plan)


def test_an_hour_of_everybodys_calls_is_found_by_the_index_on_time(
    filled: Books, connection: psycopg.Connection
) -> None:
    start = filled.day(ago=BUSY_DAY) + timedelta(hours=11)
    plan = explained(
        connection,
        f"SELECT sum(cost_usd) FROM ledger.llm_requests WHERE {IN_A_DAY}",
        start,
        start + timedelta(hours=1),
    )

    assert uses(plan, filled, "llm_requests_timestamp_idx"), str(plan)
    assert any(node["Node Type"] == "Bitmap Heap Scan" for node in plan.nodes())


def test_the_errors_of_all_codes_are_found_by_their_index(
    filled: Books, connection: psycopg.Connection
) -> None:
    plan = explained(
        connection,
        "SELECT id FROM ledger.llm_requests"
        f" WHERE (http_status_code >= 400 OR error_type IS NOT NULL) AND {IN_A_DAY}",
        filled.day(ago=BUSY_DAY),
        filled.day(ago=BUSY_DAY - 1),
    )

    assert uses(plan, filled, "llm_requests_errors_idx"), str(plan)


@pytest.mark.parametrize("level", ["llm_metrics_1m", "llm_metrics_1h"])
def test_a_users_rollups_are_found_by_user_and_bucket(
    filled: Books, connection: psycopg.Connection, level: str
) -> None:
    relation = level if filled.is_timescale else f"{level}_materialized"
    plan = explained(
        connection,
        f"SELECT sum(requests) FROM ledger.{relation} WHERE user_id = %s AND bucket >= %s"
        " AND bucket < %s",
        USER,
        filled.day(ago=3),
        filled.day(ago=1),
    )

    assert any("_user_id_bucket_idx" in name or "_pkey" in name for name in plan.indexes), str(plan)
    assert not plan.read_in_full


def test_a_readers_view_is_answered_by_the_primary_key(filled: Books) -> None:
    with roles_of(filled.url) as roles:
        reader = roles.granted("reader", [USER])
        with reader.connect() as connection:
            plan = explained(
                connection,
                f"SELECT count(*), sum(cost_usd) FROM ledger.visible_requests WHERE {IN_A_DAY}",
                filled.day(ago=BUSY_DAY),
                filled.day(ago=BUSY_DAY - 1),
            )
            assert uses(plan, filled, "llm_requests_pkey"), str(plan)
            assert len(plan.read & raw_tables(filled)) == 1
            for level in ("1m", "1h"):
                plan = explained(
                    connection,
                    f"SELECT sum(requests) FROM ledger.visible_metrics_{level}"
                    " WHERE bucket >= %s AND bucket < %s",
                    filled.day(ago=3),
                    filled.day(ago=1),
                )
                assert not plan.read_in_full, str(plan)


def raw_tables(books: Books) -> set[str]:
    """The partitions or chunks of raw rows."""
    rows = books.sql(
        "SELECT chunk_name FROM timescaledb_information.chunks"
        " WHERE hypertable_name = 'llm_requests'"
        if books.is_timescale
        else "SELECT relid::regclass::text FROM pg_partition_tree('ledger.llm_requests')"
    )
    return {name.removeprefix("ledger.") for (name,) in rows}


def raw_tables_of(books: Books, moments: list[datetime]) -> set[str]:
    """Those that rows of these moments are in."""
    rows = books.sql(
        "SELECT DISTINCT relname FROM ledger.llm_requests r JOIN pg_class c ON c.oid = r.tableoid"
        " WHERE date_trunc('day', \"timestamp\", 'UTC') IN ("
        + ", ".join(
            f"date_trunc('day', '{moment.isoformat()}'::timestamptz, 'UTC')" for moment in moments
        )
        + ")"
    )
    return {name for (name,) in rows}


METHODS = (
    "overview",
    "time_series",
    "provider_model_latency",
    "daily_model_cost",
    "error_rate",
)


@pytest.mark.parametrize("method", METHODS)
def test_a_week_of_one_user_is_read_from_hours_and_from_raw_rows_at_its_edges_only(
    filled: Books, method: str
) -> None:
    end = filled.day(ago=0) + timedelta(minutes=17)
    window = Window(start=end - timedelta(days=7), end=end)

    plan = plan_of(filled, method, window)

    assert not plan.read_in_full, str(plan)
    assert plan.thrown_away < 100, str(plan)
    assert any("_user_id_bucket_idx" in name or "_pkey" in name for name in plan.indexes)
    assert plan.read & raw_tables(filled) <= raw_tables_of(filled, [window.start, window.end])


@pytest.mark.parametrize("method", METHODS)
def test_an_hour_of_one_user_is_read_from_raw_rows_by_the_primary_key(
    filled: Books, method: str
) -> None:
    end = filled.day(ago=BUSY_DAY) + timedelta(hours=5, minutes=17)
    window = Window(start=end - timedelta(hours=1), end=end)

    plan = plan_of(filled, method, window)

    assert uses(plan, filled, "llm_requests_pkey"), str(plan)
    assert plan.read & raw_tables(filled) == raw_tables_of(filled, [end])


def plan_of(books: Books, method: str, window: Window) -> Plan:
    with Ledger.connect(books.url) as ledger, sent_by_reads() as sent:
        ask: Callable[..., object] = getattr(ledger.telemetry, method)
        ask(USER, window)
    with books.connect() as connection:
        return explained_read(connection, sent[-1])
