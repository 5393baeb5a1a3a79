"""What a run's budget is charged for what the run uses: by prices and rates, in exact US cents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from functools import partial
from types import MappingProxyType
from typing import Final, TypeAlias

from ledger.errors import InvalidArgument
from ledger.pricing.price import PriceList
from ledger.records.amounts import USD_DECIMALS, USD_DIGITS, scaled, unscaled
from ledger.records.plain import plain
from ledger.records.prices import Priced, Unpriced
from ledger.records.refusal import shown
from ledger.records.rules import require_text
from ledger.records.tokens import TokenCounts

Amount: TypeAlias = "Decimal | int | str | float"
"""A number as it is sent; of a float, the digits that repr() shows."""

_NO_NAMES: Final[Mapping[str, Decimal]] = MappingProxyType({})
_CENTS_PER_USD: Final = 100
_MILLION_DIGITS: Final = 6
_ROOM_DIGITS: Final = 64
"""More than a count, the digits before the point and the decimals kept have together."""


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class BudgetRates:
    """What things cost, in US cents, where nothing else says what they cost.

    Raises InvalidArgument for a rate that is negative, NaN, infinite or no number, or has more
    than 12 digits before or after the decimal point, and for rates by name that are no mapping;
    InvalidRecord for a name that is no text of 1 to 255 characters.
    """

    input_cents_per_million: Decimal | None
    """Of input tokens, cached ones among them; None where it is not known."""
    output_cents_per_million: Decimal | None
    """Of output tokens, reasoning among them; None where it is not known."""
    tool_call_cents: Decimal
    """Of a call of a tool that has no rate of its own."""
    tool_calls_cents: Mapping[str, Decimal]
    """Of one call, by the tool's name."""
    external_request_cents: Decimal
    """Of a request to a service that has no rate of its own."""
    external_requests_cents: Mapping[str, Decimal]
    """Of one request, by the service's name."""

    def __init__(  # noqa: PLR0913 - there are as many rates
        self,
        *,
        input_cents_per_million: Amount | None = None,
        output_cents_per_million: Amount | None = None,
        tool_call_cents: Amount = 0,
        tool_calls_cents: Mapping[str, Amount] = _NO_NAMES,
        external_request_cents: Amount = 0,
        external_requests_cents: Mapping[str, Amount] = _NO_NAMES,
    ) -> None:
        # Written by hand, as a synthesised one would take for typed callers only Decimals.
        keep = partial(object.__setattr__, self)
        for field, amount in (
            ("input_cents_per_million", input_cents_per_million),
            ("output_cents_per_million", output_cents_per_million),
        ):
            keep(field, None if amount is None else _rate(field, amount))
        keep("tool_call_cents", _rate("tool_call_cents", tool_call_cents))
        keep("tool_calls_cents", _rates("tool_calls_cents", tool_calls_cents))
        keep("external_request_cents", _rate("external_request_cents", external_request_cents))
        keep("external_requests_cents", _rates("external_requests_cents", external_requests_cents))

    def of_tokens(self, tokens: TokenCounts) -> Decimal | None:
        """What they cost in cents, not rounded; None where some of them have no rate."""
        total = 0
        for count, rate in (
            (tokens.input_tokens, self.input_cents_per_million),
            (tokens.output_tokens, self.output_cents_per_million),
        ):
            if count:
                number = None if rate is None else scaled(rate)
                if number is None:
                    return None
                total += count * number
        return unscaled(total, USD_DECIMALS + _MILLION_DIGITS)


def token_units(  # noqa: PLR0913 - a call is known by no less
    tokens: TokenCounts,
    *,
    prices: PriceList | None,
    rates: BudgetRates,
    model: str | None,
    provider: str | None,
    service_tier: str,
    at: datetime | None,
) -> int | Unpriced:
    """What the tokens cost by the price list, or else by the rates, as `units_of` has it."""
    moment = datetime.now(UTC) if at is None else _aware(at)
    found = _catalogue_price(tokens, prices, model, provider, service_tier, moment)
    if isinstance(found, Priced):
        return units_of("cost_usd", found.cost_usd, _CENTS_PER_USD)
    cents = rates.of_tokens(tokens)
    return found if cents is None else units_of("cents of these tokens", cents)


def units_of(field: str, amount: Amount, count: int = 1) -> int:
    """So many times the cents in units of their twelfth decimal, rounded half-even, once.

    Raises InvalidArgument for what is no amount of at least 0 with at most 12 digits before the
    decimal point.
    """
    cents = _cents(field, amount)
    # Not the thread's context, and one wide enough for every digit that was given.
    digits = len(cents.as_tuple().digits) + _ROOM_DIGITS
    wide = Context(prec=digits, rounding=ROUND_HALF_EVEN, traps=[])
    return int(wide.to_integral_value(wide.scaleb(wide.multiply(cents, count), USD_DECIMALS)))


def cents_of(units: int) -> Decimal:
    """The cents that are so many units, without zeros that say nothing."""
    return Decimal(plain(unscaled(units)))


def _aware(at: object) -> datetime:
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise InvalidArgument(
            f"at {shown(at)} has no time zone; pass an aware datetime, for example"
            " datetime.now(UTC)"
        )
    return at


def _catalogue_price(  # noqa: PLR0913, PLR0917 - a call is known by no less
    tokens: TokenCounts,
    prices: PriceList | None,
    model: str | None,
    provider: str | None,
    service_tier: str,
    at: datetime,
) -> Priced | Unpriced:
    if model is None:
        return Unpriced(reason="unknown_model", sentence="no model is named")
    if prices is not None and provider is None:
        providers = prices.providers(model)
        if len(providers) > 1:
            raise InvalidArgument(
                f"model {shown(model)} has prices of the providers {', '.join(providers)};"
                " pass provider to say which of them was called"
            )
        provider = providers[0] if providers else None
    if prices is None or provider is None:
        sentence = f"there is no price of model {shown(model)}"
        return Unpriced(reason="unknown_model", sentence=sentence)
    return prices.price(tokens, provider=provider, model=model, service_tier=service_tier, at=at)


def _cents(field: str, amount: Amount) -> Decimal:
    cents = _exact(amount)
    if (
        cents is None
        or not cents.is_finite()
        or cents < 0
        or (cents and cents.adjusted() >= USD_DIGITS)
    ):
        raise InvalidArgument(
            f"{field} {shown(amount)} is not an amount of at least 0 US cents with at most"
            f" {USD_DIGITS} digits before the decimal point; pass one, such as Decimal('2.5')"
        )
    return cents


def _exact(amount: object) -> Decimal | None:
    if isinstance(amount, float):
        amount = float.__repr__(amount)  # that of a subclass, such as NumPy's, is no number
    if isinstance(amount, bool) or not isinstance(amount, (Decimal, int, str)):
        return None
    try:
        return Decimal(amount)
    except InvalidOperation:
        return None


def _rate(field: str, amount: Amount) -> Decimal:
    cents = _cents(field, amount)
    if scaled(cents) is None:
        raise InvalidArgument(
            f"{field} {shown(amount)} has more than {USD_DECIMALS} digits after the decimal"
            " point, and a rate is not rounded; pass one that has fewer"
        )
    return cents


def _rates(field: str, amounts: Mapping[str, Amount]) -> dict[str, Decimal]:
    if not isinstance(amounts, Mapping):
        raise InvalidArgument(
            f"{field} {shown(amounts)} is not a mapping from names to cents; pass one, such as"
            " {'search': '0.5'}"
        )
    rates = {}  # a copy, as what it is made from may change
    for name, amount in amounts.items():
        require_text(f"name in {field}", name)
        rates[name] = _rate(f"{field}[{shown(name)}]", amount)
    return rates
