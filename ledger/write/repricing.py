"""The plan that prices booked calls anew, and books the differences; what was booked stays."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from ledger.errors import InvalidRecord
from ledger.pricing.charges import charge
from ledger.records.amounts import exactly
from ledger.records.prices import Priced
from ledger.records.tokens import TokenCounts
from ledger.window import Window, require_window
from ledger.write.catalogues import catalogues_of
from ledger.write.commands import atomically, execute
from ledger.write.corrections import alone, correction, moment_of_booking
from ledger.write.recordset import bound
from ledger.write.repricing_statements import BOOKED_CALLS
from ledger.write.repricing_tally import RepricingTally
from ledger.write.usage_statements import INSERT

if TYPE_CHECKING:
    from sqlalchemy import Row

    from ledger.records.repricing import Repricing
    from ledger.write.catalogues import Catalogues
    from ledger.write.commands import Plan, Steps
    from ledger.write.terms import Terms

BATCH: Final = 2_000
_FIRST: Final = UUID(int=0)


def reprice(terms: Terms, window: Window, *, dry_run: bool) -> Plan[Repricing]:
    """Price the window's calls by the prices that are known now, batch by batch."""
    require_window(window)
    found = RepricingTally()
    after: tuple[datetime, UUID] | None = (window.start, _FIRST)
    while after is not None:
        after = yield from atomically(_batch(terms, window, after, found, dry_run=dry_run))
    return found.told(window, is_dry_run=dry_run)


def _batch(
    terms: Terms,
    window: Window,
    after: tuple[datetime, UUID],
    found: RepricingTally,
    *,
    dry_run: bool,
) -> Steps[tuple[datetime, UUID] | None]:
    """Some calls; gives the last of them, or None where there are no more."""
    if not dry_run:
        yield from alone()
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
        try:
            adjustment = _adjustment(call, known, terms, now)
        except InvalidRecord:
            adjustment = None  # one call beyond all bounds must not keep the others waiting
        found.add(call, adjustment, is_priced=_is_priced(call))
        if adjustment is not None:
            adjustments.append(adjustment)
    if adjustments and not dry_run:
        found.booked += (yield from execute(INSERT, bound(adjustments))).count
    return calls[-1].created_at, calls[-1].id


@exactly
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
    cost_so_far = (call.vendor_cost or 0) + call.adjusted_cost
    credits_so_far = (call.credits_deducted or 0) + int(call.adjusted_credits)
    charged = charge(
        cost,
        margin_multiplier=multiplier,
        credit_value_usd=call.credit_value_usd,
        status=call.status,
        # As it was decided when the call was priced, unless there was nothing to decide.
        charges_failures=credits_so_far > 0 if cost_so_far else terms.charging.charges_failures,
    )
    cost_change = cost - cost_so_far
    # Less would give back twice what was refunded, and more take back what was.
    credits_change = 0 if call.refunds else charged.credits_deducted - credits_so_far
    if _is_priced(call) and not cost_change and not credits_change:
        return None
    return correction(
        call,
        kind="adjustment",
        request_id=_adjustment_id(call, price_id),
        at=now,
        price_id=price_id,
        vendor_cost=cost_change,
        credits_deducted=credits_change,
        margin_multiplier=multiplier,
    )


def _is_priced(call: Row[Any]) -> bool:
    return call.pricing_status == "priced" or bool(call.adjusted_prices)


def _adjustment_id(call: Row[Any], price_id: UUID | None) -> str:
    """Of the call and the price; and how often before, of a price that came back."""
    name = "stated" if price_id is None else str(price_id)
    before = call.adjusted_prices.count(price_id)
    return str(uuid5(call.id, f"{name} {before}" if before else name))


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
