"""What is charged for a call: credits, their worth, and the margin that they leave."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from ledger.errors import InvalidArgument
from ledger.records.amounts import USD_DECIMALS, USD_DIGITS, scaled, unscaled
from ledger.records.plain import Record
from ledger.records.refusal import refusal, shown
from ledger.records.tokens import GREATEST_COUNT

Status = Literal["success", "failed", "cancelled"]

MULTIPLIER_DECIMALS: Final = 6
MULTIPLIER_DIGITS: Final = 6

_MOST: Final = 10 ** (USD_DIGITS + USD_DECIMALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge(Record):
    """What is charged for one call."""

    credits_deducted: int
    charge_usd: Decimal
    """What these credits are worth."""
    gross_margin_usd: Decimal
    """The charge without the vendor's cost; negative where that is not covered."""


def charge(
    vendor_cost: Decimal,
    *,
    margin_multiplier: Decimal,
    credit_value_usd: Decimal,
    status: Status,
    charges_failures: bool = False,
) -> Charge:
    """The fewest whole credits that are worth ``vendor_cost`` times ``margin_multiplier``.

    A failed or cancelled call is charged nothing, unless ``charges_failures``, and its cost is
    a loss. Nothing is rounded: the amounts are exact, and so that they stay so where they are
    stored, no more digits are taken than columns have (12 before and 12 after the point, a
    multiplier 6 and 6).

    Raises InvalidArgument for a multiplier below 0, a credit worth nothing or less, and either
    NaN, infinite or of more digits; InvalidRecord for such a cost, an unknown status, and a
    charge of more credits than bigint or more dollars than 12 digits hold.
    """
    cost = scaled(vendor_cost)
    if cost is None or cost < 0:
        rule = f"not at least 0 with at most {USD_DIGITS} digits before and {USD_DECIMALS} after"
        raise refusal("vendor_cost", vendor_cost, f"{rule} the decimal point")
    multiplier = scaled(margin_multiplier, MULTIPLIER_DECIMALS, MULTIPLIER_DIGITS)
    if multiplier is None or multiplier < 0:
        raise InvalidArgument(
            f"margin_multiplier {shown(margin_multiplier)} is not at least 0 with at most"
            f" {MULTIPLIER_DIGITS} digits before and {MULTIPLIER_DECIMALS} after the decimal point"
        )
    credit = scaled(credit_value_usd)
    if credit is None or credit <= 0:
        raise InvalidArgument(
            f"credit_value_usd {shown(credit_value_usd)} is not above 0 with at most {USD_DIGITS}"
            f" digits before and {USD_DECIMALS} after the decimal point"
        )
    if status not in {"success", "failed", "cancelled"}:
        raise refusal("status", status, "not one of success, failed, cancelled")
    if status == "success" or charges_failures:
        # In whole numbers, of which // rounds down: so a negative one up. Decimal's division
        # rounds before a ceiling could, and makes 1 credit of 1.00...01.
        deducted = -(-cost * multiplier // (credit * 10**MULTIPLIER_DECIMALS))
    else:
        deducted = 0
    if deducted > GREATEST_COUNT or deducted * credit >= _MOST:
        rule = (
            f"is {deducted} credits of {credit_value_usd} US dollars, more than bigint or"
            f" {USD_DIGITS} digits of dollars hold"
        )
        raise refusal("vendor_cost", vendor_cost, rule)
    return Charge(
        credits_deducted=deducted,
        charge_usd=unscaled(deducted * credit),
        gross_margin_usd=unscaled(deducted * credit - cost),
    )
