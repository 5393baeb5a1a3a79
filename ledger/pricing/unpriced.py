"""Why a call has no price, in a word for programs and a sentence for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.records.prices import Unpriced

if TYPE_CHECKING:
    from datetime import datetime

    from ledger.pricing.lookup import Tiers
    from ledger.records.prices import Kind, ModelPrice


def why_unpriced(  # noqa: PLR0913, PLR0917 - what was asked for, and what was found
    tiers: Tiers | None,
    input_tokens: int,
    provider: str,
    model: str,
    service_tier: str,
    at: datetime,
) -> Unpriced:
    """Why none of the model's prices holds for such a call."""
    whose = f"model {model!r} of provider {provider!r}"
    if tiers is None:
        return Unpriced(reason="unknown_model", sentence=f"there is no price of {whose}")
    whose += f" in service tier {service_tier!r}"
    timelines = tiers.get(service_tier)
    if timelines is None:
        known = ", ".join(sorted(tiers))
        return Unpriced(
            reason="unknown_service_tier",
            sentence=f"there is no price of {whose}; there are prices for {known}",
        )
    reached = [each for each in timelines if each.context_tokens_from <= input_tokens]
    if not reached:
        least = timelines[-1].context_tokens_from
        return Unpriced(
            reason="unknown_context_size",
            sentence=f"prices of {whose} begin at {least} input tokens, and it has {input_tokens}",
        )
    begun = [rated.price for each in reached if (rated := each.begun(at)) is not None]
    if not begun:
        first = min(each.starts[0] for each in reached)
        return Unpriced(
            reason="not_yet_effective",
            sentence=f"prices of {whose} begin on {first.isoformat()}, after {at.isoformat()}",
        )
    # Were one of them not withdrawn, it would have been applied.
    last = max(price.effective_from for price in begun)
    return Unpriced(
        reason="withdrawn", sentence=f"the price of {whose} was withdrawn on {last.isoformat()}"
    )


def no_rate(price: ModelPrice, kind: Kind, tokens: int) -> Unpriced:
    """The model has a price, but none for a kind of token that the call has."""
    return Unpriced(
        reason="no_rate",
        sentence=(
            f"the price of model {price.model!r} of provider {price.provider!r} from"
            f" {price.effective_from.isoformat()} has no rate for {kind}, and the call has"
            f" {tokens} such tokens"
        ),
    )
