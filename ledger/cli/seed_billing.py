"""Seeded calls as they are billed: who is charged, at what prices, and each call as usage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import cycle
from typing import TYPE_CHECKING, Final

from ledger.cli.callers import SERVICE_TIERS
from ledger.cli.catalogue import PICODOLLARS_PER_TOKEN, models
from ledger.records.prices import STANDARD, ModelPrice
from ledger.records.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from uuid import UUID

    from ledger.records.transaction import Transaction
    from ledger.repositories.ledger import Ledger

TIERS: Final = {"pro": "1.5", "business": "1.3", "free": "1"}

_SINCE: Final = datetime(2025, 1, 1, tzinfo=UTC)
_YEARS: Final = timedelta(days=3650)
_SUCCEEDED: Final = 400
"""Statuses from here on are failures."""


def introduce(
    ledger: Ledger, users: Sequence[UUID], projects: Collection[UUID], last: datetime
) -> None:
    """Make users, tiers, projects, providers and the catalogue's prices known."""
    since = min(_SINCE, last - _YEARS)
    for tier, multiplier in TIERS.items():
        ledger.tenancy.set_tier(tier, multiplier, effective_from=since)
    for user, tier in zip(users, cycle(TIERS), strict=False):
        ledger.tenancy.upsert_user(id=user, tier=tier)
    for number, project in enumerate(sorted(projects), 1):
        ledger.tenancy.upsert_project(f"project {number}", id=project)
    for provider in dict.fromkeys(model.provider for model in models()):
        ledger.tenancy.upsert_provider(provider)
    ledger.billing.add_prices(_prices(since))


def usage_of(call: Transaction) -> Usage:
    """The call as it is billed."""
    failed = call.error_type is not None or (call.http_status_code or 0) >= _SUCCEEDED
    return Usage(
        user_id=call.user_id,
        request_id=call.request_id or str(call.id),
        created_at=call.timestamp,
        provider=call.provider,
        model=call.model,
        status="cancelled" if call.error_type == "cancelled" else "failed" if failed else "success",
        service_tier=call.service_tier or STANDARD,
        operation=call.operation,
        project_id=call.project_id,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cache_read_tokens=call.cache_read_tokens,
        cache_write_tokens=call.cache_write_tokens,
        reasoning_tokens=call.reasoning_tokens,
        latency_ms=call.latency_ms,
    )


def _prices(since: datetime) -> Iterator[ModelPrice]:
    """The catalogue's, the same in each service tier, as it says no others."""
    for model in models():
        if model.price is None:
            continue
        rates = {
            f"{name}_usd_per_million": Decimal(getattr(model.price, name)) / PICODOLLARS_PER_TOKEN
            for name in ("input", "output", "cache_read", "cache_write")
        }
        for service_tier in dict.fromkeys(tier or STANDARD for tier in SERVICE_TIERS):
            yield ModelPrice(
                provider=model.provider,
                model=model.model,
                service_tier=service_tier,
                effective_from=since,
                source="models.json",
                **rates,  # type: ignore[arg-type]  # each is a rate
            )
