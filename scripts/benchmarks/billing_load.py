"""Booked calls by the million, made inside the server: 90 days, skewed users, 24 models."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlalchemy import text

from ledger import Ledger

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Engine

DAYS: Final = 90
USERS: Final = 200
PROVIDERS: Final = 6
TIERS: Final = {"free": "1", "pro": "1.5", "business": "1.3"}

_ROWS: Final = """
INSERT INTO ledger.token_usage_ledger (user_id, id, request_id, kind, provider_id, model_id,
  operation, status, tier, service_tier, input_tokens, output_tokens, cache_read_tokens,
  cache_write_tokens, reasoning_tokens, usage_source, latency_ms, pricing_status, vendor_cost,
  margin_multiplier, credit_value_usd, credits_deducted, charge_usd, gross_margin_usd, created_at,
  attributes)
SELECT ('00000000-0000-0000-0000-' || lpad(to_hex(person), 12, '0'))::uuid,
  (substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-7' || substr(noise, 1, 3) || '-8'
    || substr(noise, 4, 3) || '-' || substr(noise, 7, 12))::uuid,
  'request-' || number, 'usage', providers[1 + model % :providers], 'model-' || model, 'chat',
  status, tier, 'standard', 50 + (chance * 3000)::int, 20 + (chance * 700)::int,
  (chance * 40)::int, 0, 0, 'provider', (chance * 5000)::int, 'stated', cost, multiplier, 0.01,
  credits, credits * 0.01, credits * 0.01 - cost, at, '{}'
FROM (
  SELECT *, CASE WHEN status = 'success' THEN ceil(cost * multiplier / 0.01) ELSE 0 END::bigint
    AS credits
  FROM (
    SELECT *, lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS hex,
      1 + floor(:users * power(another, 2))::int AS person,
      floor(24 * power(third, 1.5))::int AS model,
      (ARRAY['free', 'pro', 'business'])[1 + floor(3 * fourth)::int] AS tier,
      (ARRAY[1, 1.5, 1.3])[1 + floor(3 * fourth)::int]::numeric AS multiplier,
      CASE WHEN number % 31 = 0 THEN 'failed' WHEN number % 97 = 0 THEN 'cancelled'
        ELSE 'success' END AS status,
      round(exp(2.5 * (chance + another + third - 3.5))::numeric, 10) AS cost
    FROM (
      SELECT number,
        (cast(:start AS timestamptz) + number * cast(:step AS interval))::timestamptz(3) AS at,
        random() AS chance, random() AS another, random() AS third, random() AS fourth,
        md5(number::text || random()::text) AS noise
      FROM generate_series(cast(:first AS bigint), cast(:last AS bigint)) AS number OFFSET 0
    ) AS drawn OFFSET 0
  ) AS calls OFFSET 0
) AS charged, (SELECT array_agg(id ORDER BY name) AS providers FROM ledger.providers) AS known
"""


def introduce(ledger: Ledger) -> None:
    """Make users, tiers and providers known."""
    for tier, multiplier in TIERS.items():
        ledger.tenancy.set_tier(tier, multiplier)
    for number in range(1, USERS + 1):
        ledger.tenancy.upsert_user(id=UUID(int=number), tier="pro")
    for number in range(PROVIDERS):
        ledger.tenancy.upsert_provider(f"provider-{number}")


def load(engine: Engine, rows: int, *, end: datetime) -> None:
    """Book ``rows`` calls, evenly over the 90 days before ``end``, a day a transaction."""
    step = f"{DAYS * 86_400_000_000 / rows} microseconds"
    per_day = rows // DAYS
    for day in range(DAYS):
        with engine.begin() as connection:
            connection.execute(
                text(_ROWS),
                {
                    "start": end - timedelta(days=DAYS),
                    "step": step,
                    "first": day * per_day,
                    "last": rows - 1 if day == DAYS - 1 else (day + 1) * per_day - 1,
                    "users": USERS,
                    "providers": PROVIDERS,
                },
            )
