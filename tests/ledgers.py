"""A whole ledger, called or awaited, with one face for tests; and what billing needs in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from ledger import AsyncLedger, Ledger
from ledger.records.prices import ModelPrice
from ledger.records.usage import Usage
from tests.writers import Kind

NOW = datetime.now(UTC).replace(microsecond=0)
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)
PRICE = ModelPrice(
    provider="openai",
    model="gpt-4o",
    effective_from=LONG_AGO,
    input_usd_per_million=Decimal("2.5"),
    cache_read_usd_per_million=Decimal("1.25"),
    output_usd_per_million=Decimal(10),
    source="a price list",
)

CORRECT = """
INSERT INTO ledger.token_usage_ledger (user_id, id, request_id, kind, adjusts_id,
  adjusts_created_at, provider_id, model_id, project_id, status, tier, service_tier, input_tokens,
  output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, usage_source,
  pricing_status, vendor_cost, margin_multiplier, credit_value_usd, credits_deducted, charge_usd,
  gross_margin_usd, created_at, attributes)
SELECT user_id, (substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || substr(id::text, 14))::uuid,
  'of ' || request_id, CASE WHEN number = 2 THEN 'refund' ELSE 'adjustment' END, id, created_at,
  provider_id, model_id, project_id, status, tier, service_tier, 0, 0, 0, 0, 0, usage_source,
  'stated', cost, 1.5, 0.01, number - 3, (number - 3) * 0.01, (number - 3) * 0.01 - cost, at, '{}'
FROM (
  SELECT *, lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS hex
  FROM (
    SELECT *, created_at + number * INTERVAL '20 hours' AS at, CASE WHEN number = 2 THEN 0
      ELSE (number - 4) * 0.000123456789 END AS cost
    FROM (SELECT *, (row_number() OVER (ORDER BY created_at))::int % 9 AS number
          FROM ledger.token_usage_ledger) AS numbered WHERE number % 3 > 0
  ) AS moved
) AS corrected
"""
"""Corrects two calls of three, by a little of either sign, some hours later."""


class Awaited:
    """Each method of an asynchronous object, run to its end."""

    def __init__(self, target: object, runner: asyncio.Runner) -> None:
        self._target, self._runner = target, runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return Awaited(found, self._runner)

        def method(*args: Any, **kwargs: Any) -> Any:
            return self._runner.run(found(*args, **kwargs))

        return method


@contextmanager
def ledger_at(url: str, kind: Kind = "called", **options: Any) -> Iterator[Ledger]:
    """The ledger of the database; an asynchronous one looks like the other."""
    if kind == "called":
        with Ledger.connect(url, **options) as ledger:
            yield ledger
    else:
        with asyncio.Runner() as runner:
            awaited = AsyncLedger.connect(url, **options)
            try:
                yield cast("Ledger", Awaited(awaited, runner))
            finally:
                runner.run(awaited.close())


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """A ledger that knows a user of tier pro (1.5), the provider openai and its price."""

    url: str
    ledger: Ledger
    user: UUID
    provider: UUID

    def usage(self, request_id: str = "r", **what_matters: Any) -> Usage:
        """A valid call of a minute ago, which costs $0.00325 and one credit."""
        return Usage(**self.fields(request_id, **what_matters))

    def fields(self, request_id: str = "r", **what_matters: Any) -> dict[str, Any]:
        """The same as a mapping."""
        return {
            "user_id": self.user,
            "request_id": request_id,
            "created_at": NOW - timedelta(minutes=1),
            "provider": "openai",
            "model": "gpt-4o",
            "input_tokens": 1_000,
            "cache_read_tokens": 200,
            "output_tokens": 100,
            **what_matters,
        }


@contextmanager
def books_at(url: str, kind: Kind = "called", **options: Any) -> Iterator[Books]:
    """Books that nothing is in yet."""
    with ledger_at(url, kind, **options) as ledger:
        ledger.tenancy.set_tier("pro", "1.5", effective_from=LONG_AGO)
        user = ledger.tenancy.upsert_user(tier="pro", external_id="acme")
        provider = ledger.tenancy.upsert_provider("openai")
        ledger.billing.add_prices([PRICE])
        yield Books(url=url, ledger=ledger, user=user, provider=provider)


def at_once(*actions: Callable[[], object]) -> None:
    """Do these in a thread each, and raise what any of them raises."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(len(actions)) as threads:
        for future in [threads.submit(action) for action in actions]:
            future.result()
