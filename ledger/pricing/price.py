"""What a call costs: the price that held for it, applied to each kind of its tokens, exactly."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ledger.errors import InvalidArgument
from ledger.pricing.lookup import KINDS, Rate, Rated, by_model
from ledger.pricing.unpriced import no_rate, why_unpriced
from ledger.records.amounts import USD_DECIMALS, USD_DIGITS, unscaled
from ledger.records.prices import Priced, PricedTokens, Unpriced
from ledger.records.refusal import refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ledger.records.prices import ModelPrice
    from ledger.records.tokens import TokenCounts

_PER: Final = 1_000_000
"""Rates are for a million tokens."""
_HALF: Final = _PER // 2
_MOST: Final = 10 ** (USD_DIGITS + USD_DECIMALS)


class PriceList:
    """Prices, made ready once so that each call is priced by looking one up.

    A price holds from `effective_from` until the next one of its provider, model, service tier
    and context size begins. Of those that hold, the one of the greatest `context_tokens_from`
    that the call's input tokens reach is applied to all of its tokens.

    Raises InvalidRecord for two different prices of one moment.
    """

    def __init__(self, prices: Iterable[ModelPrice]) -> None:
        said = tuple(prices)
        self._models = by_model(said)
        self._count = len(said)

    def __len__(self) -> int:
        """How many prices it was made of."""
        return self._count

    def providers(self, model: str) -> list[str]:
        """Who serves the model at some price, in their order."""
        return sorted(provider for provider, named in self._models if named == model)

    def price(
        self, tokens: TokenCounts, *, provider: str, model: str, service_tier: str, at: datetime
    ) -> Priced | Unpriced:
        """What these tokens cost, or why that cannot be said.

        ``at`` is aware. Raises InvalidArgument for a naive one, and InvalidRecord for a cost of
        a million million US dollars or more.
        """
        if at.tzinfo is not UTC:
            at = _utc(at)  # in which two times compare ten times as fast as across zones
        tiers = self._models.get((provider, model))
        for timeline in () if tiers is None else tiers.get(service_tier, ()):
            if timeline.context_tokens_from <= tokens.input_tokens:
                begun = bisect_right(timeline.starts, at)
                if begun and not (rated := timeline.prices[begun - 1]).price.is_withdrawn:
                    return _priced(tokens, rated)
        return why_unpriced(tiers, tokens.input_tokens, provider, model, service_tier, at)


def price(  # noqa: PLR0913 - a call is known by no less
    tokens: TokenCounts,
    prices: Iterable[ModelPrice],
    *,
    provider: str,
    model: str,
    service_tier: str,
    at: datetime,
) -> Priced | Unpriced:
    """What these tokens cost by the one of these prices that held, as `PriceList.price` says.

    For one call; for many, make the list once.
    """
    return PriceList(prices).price(
        tokens, provider=provider, model=model, service_tier=service_tier, at=at
    )


def _priced(tokens: TokenCounts, rated: Rated) -> Priced | Unpriced:
    # In whole numbers of a rate's last digit: exact, and twice as fast as Decimal.
    cached = tokens.cache_read_tokens + tokens.cache_write_tokens
    counts = (
        tokens.input_tokens - cached,
        tokens.cache_read_tokens,
        tokens.cache_write_tokens,
        tokens.output_tokens - tokens.reasoning_tokens,
        tokens.reasoning_tokens,
    )
    total = 0
    used: list[tuple[Rate, int, int]] = []
    for index, count in enumerate(counts):
        if count:
            if (rate := rated.rates[index]) is None:
                return no_rate(rated.price, KINDS[index], count)
            amount = count * rate.scaled
            total += amount
            used.append((rate, count, amount))
    cost = _rounded(total)
    if cost >= _MOST:
        rule = f"more than {USD_DIGITS} digits before the decimal point"
        raise refusal("cost_usd", unscaled(cost), rule)
    return Priced(
        cost_usd=unscaled(cost),
        items=tuple(
            PricedTokens(
                kind=rate.kind,
                tokens=count,
                usd_per_million=rate.usd_per_million,
                cost_usd=unscaled(part),
            )
            for (rate, count, _), part in zip(
                used, _parts(cost, [amount for _, _, amount in used]), strict=True
            )
        ),
        price=rated.price,
    )


def _rounded(amount: int) -> int:
    """A millionth of it, half-even."""
    quotient, rest = divmod(amount, _PER)
    return quotient + (rest > _HALF or (rest == _HALF and quotient % 2 == 1))


def _parts(cost: int, amounts: list[int]) -> list[int]:
    """A millionth of each, up or down, so that they add up to the cost: by largest remainder."""
    parts = [amount // _PER for amount in amounts]
    if short := cost - sum(parts):
        by_rest = sorted(range(len(parts)), key=lambda index: -(amounts[index] % _PER))
        for index in by_rest[:short]:
            parts[index] += 1
    return parts


def _utc(at: datetime) -> datetime:
    try:
        if at.utcoffset() is not None:
            return at.astimezone(UTC)
    except OverflowError:
        raise InvalidArgument(f"at {at.isoformat()} is outside the years 1 to 9999") from None
    raise InvalidArgument(
        f"at {at.isoformat()} has no time zone; pass an aware datetime, for example"
        " datetime.now(UTC)"
    )
