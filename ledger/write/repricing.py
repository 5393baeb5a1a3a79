"""The plan that prices booked calls anew, and books the differences; what was booked stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from ledger.errors import InvalidRecord
from ledger.pricing.charges import charge
from ledger.records.prices import Priced
from ledger.records.repricing import RepricedModel, Repricing
from ledger.records.tokens import TokenCounts
from ledger.write.catalogues import catalogues_of
from ledger.write.commands import atomically, execute
from ledger.write.corrections import LOCK, correction, moment_of_booking
from ledger.write.recordset import bound
from ledger.write.repricing_statements import BOOKED_CALLS
from ledger.write.usage_statements import INSERT

if TYPE_CHECKING:
    from sqlalchemy import Row

    from ledger.window import Window
    from ledger.write.catalogues import Catalogues
    from ledger.write.commands import Plan, Steps
    from ledger.write.terms import Terms

BATCH: Final = 2_000
_FIRST: Final = UUID(int=0)


@dataclass(slots=True, kw_only=True)
class _Change:
    """Differences added up."""

    requests: int = 0
    vendor_cost: Decimal = Decimal(0)
    charge_usd: Decimal = Decimal(0)
    credits_deducted: int = 0

    def add(self, adjustment: Mapping[str, Any]) -> None:
        self.requests += 1
        self.vendor_cost += adjustment["vendor_cost"]
        self.charge_usd += adjustment["charge_usd"]
        self.credits_deducted += adjustment["credits_deducted"]


@dataclass(slots=True, kw_only=True)
class _Found:
    """What has come of the calls so far."""

    examined: int = 0
    newly_priced: int = 0
    still_unpriced: int = 0
    booked: int = 0
    by_model: dict[tuple[str, str], _Change] = field(default_factory=lambda: defaultdict(_Change))


def reprice(terms: Terms, window: Window, *, dry_run: bool) -> Plan[Repricing]:
    """Price the window's calls by the prices that are known now, batch by batch."""
    found = _Found()
    after: tuple[datetime, UUID] | None = (window.start, _FIRST)
    while after is not None:
        after = yield from atomically(_batch(terms, window, after, found, dry_run=dry_run))
    whole = _Change()
    for change in found.by_model.values():
        whole.requests += change.requests
        whole.vendor_cost += change.vendor_cost
        whole.charge_usd += change.charge_usd
        whole.credits_deducted += change.credits_deducted
    return Repricing(
        window=window,
        is_dry_run=dry_run,
        examined=found.examined,
        changed=whole.requests,
        newly_priced=found.newly_priced,
        still_unpriced=found.still_unpriced,
        booked=found.booked,
        vendor_cost_change_usd=whole.vendor_cost,
        charge_change_usd=whole.charge_usd,
        credits_change=whole.credits_deducted,
        by_model=tuple(
            RepricedModel(
                provider=provider,
                model=model,
                requests=change.requests,
                vendor_cost_change_usd=change.vendor_cost,
                charge_change_usd=change.charge_usd,
                credits_change=change.credits_deducted,
            )
            for (provider, model), change in sorted(found.by_model.items())
        ),
    )


def _batch(
    terms: Terms, window: Window, after: tuple[datetime, UUID], found: _Found, *, dry_run: bool
) -> Steps[tuple[datetime, UUID] | None]:
    """Some calls; gives the last of them, or None where there are no more."""
    if not dry_run:
        yield from execute(LOCK)
    moment, last = after
    parameters = {"moment": moment, "last": last, "end": window.end, "limit": BATCH}
    calls = (yield from execute(BOOKED_CALLS, parameters)).rows
    if not calls:
        return None
    now = yield from moment_of_booking()
    known = yield from catalogues_of(
        {call.tier for call in calls}, {(call.provider, call.model_id) for call in calls}
    )
    adjustments = []
    for call in calls:
        found.examined += 1
        try:
            adjustment = _adjustment(call, known, terms, now)
        except InvalidRecord:
            adjustment = None  # one call beyond all bounds must not keep the others waiting
        if adjustment is None:
            found.still_unpriced += call.pricing_status == "unpriced" and not call.adjustments
        else:
            adjustments.append(adjustment)
            found.newly_priced += call.pricing_status == "unpriced" and not call.adjustments
            found.by_model[call.provider, call.model_id].add(adjustment)
    if adjustments and not dry_run:
        found.booked += (yield from execute(INSERT, bound(adjustments))).count
    return calls[-1].created_at, calls[-1].id


def _adjustment(
    call: Row[Any], known: Catalogues, terms: Terms, now: datetime
) -> dict[str, Any] | None:
    """The row that makes up for the difference; None where there is none, or no price.

    Raises InvalidRecord where the price makes more of the call than columns hold.
    """
    found = _cost(call, known)
    multiplier = _multiplier(call, known)
    if found is None or multiplier is None:
        return None
    cost, price_id = found
    is_priced_already = call.pricing_status == "priced" or call.adjustments
    deducted_so_far = (call.credits_deducted or 0) + int(call.adjusted_credits)
    charged = charge(
        cost,
        margin_multiplier=multiplier,
        credit_value_usd=call.credit_value_usd,
        status=call.status,
        # As it was decided when the call was priced.
        charges_failures=(
            deducted_so_far > 0 if is_priced_already else terms.charging.charges_failures
        ),
    )
    cost_change = cost - (call.vendor_cost or 0) - call.adjusted_cost
    credits_change = charged.credits_deducted - deducted_so_far
    if is_priced_already and not cost_change and not credits_change:
        return None
    return correction(
        call,
        kind="adjustment",
        request_id=str(uuid5(call.id, "stated" if price_id is None else str(price_id))),
        at=now,
        price_id=price_id,
        vendor_cost=cost_change,
        credits_deducted=credits_change,
        margin_multiplier=multiplier,
    )


def _cost(call: Row[Any], known: Catalogues) -> tuple[Decimal, UUID | None] | None:
    """What the call costs, and the price that says so; None where none does.

    A cost that was stated stays as it was, also of a call that waited for its multiplier.
    """
    if call.stated_cost is not None:
        return call.stated_cost, None
    tokens = TokenCounts(
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cache_read_tokens=call.cache_read_tokens,
        cache_write_tokens=call.cache_write_tokens,
        reasoning_tokens=call.reasoning_tokens,
    )
    priced = known.prices.price(
        tokens,
        provider=call.provider,
        model=call.model_id,
        service_tier=call.service_tier,
        at=call.created_at,
    )
    return (priced.cost_usd, priced.price.id) if isinstance(priced, Priced) else None


def _multiplier(call: Row[Any], known: Catalogues) -> Decimal | None:
    """What the call was charged by, if it ever was, and else what its tier says."""
    for multiplier in (call.margin_multiplier, call.adjusted_multiplier):
        if multiplier is not None:
            return Decimal(multiplier)
    return known.multiplier(call.tier, call.created_at)
