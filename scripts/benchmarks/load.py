"""Millions of realistic calls, made inside the server: 30 days, skewed users, 24 models."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlalchemy import Engine, text

from ledger.settings import Storage

if TYPE_CHECKING:
    from datetime import datetime

DAYS: Final = 30
HEAVY: Final = UUID(int=1)
"""The user who makes a quarter of all calls."""
STEADY: Final = UUID(int=1000)
"""One who made a quarter of a tenth of them, the same whatever came beside."""

_ROWS: Final = """
INSERT INTO ledger.llm_requests (user_id, "timestamp", id, provider, model, operation, category,
  latency_ms, time_to_first_token_ms, input_tokens, output_tokens, reasoning_tokens,
  cache_read_tokens, cache_write_tokens, cost_usd, http_status_code, is_streaming, attributes)
SELECT
  ('00000000-0000-0000-0000-' || lpad(to_hex(person), 12, '0'))::uuid, at,
  (substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-7' || substr(noise, 1, 3) || '-8'
    || substr(noise, 4, 3) || '-' || substr(noise, 7, 12))::uuid,
  'provider-' || model % 6, 'model-' || model, 'chat',
  CASE WHEN number % 5 = 0 THEN 'support' END,
  latency, latency / 4, 50 + (chance * 3000)::int, 20 + (chance * 700)::int, 0,
  (chance * 40)::int, 0,
  CASE WHEN number % 97 > 0 THEN round((chance * 0.02)::numeric, 8) END,
  CASE WHEN number % 41 = 0 THEN 429 WHEN number % 67 = 0 THEN 500 ELSE 200 END,
  number % 3 = 0, '{}'
FROM (
  SELECT number, at, chance, noise,
    lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS hex,
    CASE WHEN chance < 0.25 THEN :heavy ELSE 2 + floor(200 * power(another, 2))::int END AS person,
    floor(24 * power(third, 1.5))::int AS model,
    least(exp(6.9 + 1.8 * (chance + another + third + fourth - 2)), 120000)::int AS latency
  FROM (
    SELECT number,
      (cast(:start AS timestamptz) + number * cast(:step AS interval))::timestamptz(3) AS at,
      random() AS chance, random() AS another, random() AS third, random() AS fourth,
      md5(number::text || random()::text) AS noise
    FROM generate_series(cast(:first AS bigint), cast(:last AS bigint)) AS number OFFSET 0
  ) AS drawn OFFSET 0
) AS calls
"""


def load(
    engine: Engine, rows: int, *, end: datetime, storage: Storage, heavy: UUID = HEAVY
) -> None:
    """Insert ``rows`` calls, evenly over the 30 days before ``end``, a day a transaction.

    A quarter of them are ``heavy``'s.
    """
    with engine.begin() as connection:
        connection.execute(text("SELECT setseed(1.0 / :heavy)"), {"heavy": heavy.int})
        if storage is Storage.POSTGRES:
            connection.execute(
                text(
                    "SELECT ledger.ensure_days(array_agg(day::date)) FROM generate_series("
                    "(cast(:end AS timestamptz) - make_interval(days => :days + 1)) AT TIME ZONE"
                    " 'UTC', cast(:end AS timestamptz) AT TIME ZONE 'UTC' + INTERVAL '1 day',"
                    " INTERVAL '1 day') AS day"
                ),
                {"end": end, "days": DAYS},
            )
    step = f"{DAYS * 86_400_000_000 / rows} microseconds"
    per_day = rows // DAYS
    for day in range(DAYS):
        with engine.begin() as connection:
            connection.execute(
                text(_ROWS),
                {
                    "heavy": heavy.int,
                    "start": end - timedelta(days=DAYS),
                    "step": step,
                    "first": day * per_day,
                    "last": (day + 1) * per_day - 1,
                },
            )
