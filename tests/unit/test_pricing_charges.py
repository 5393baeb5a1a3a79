from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidArgument, InvalidRecord
from ledger.pricing.charges import Charge, Status, charge

CENT = Decimal("0.01")

costs = st.decimals(0, 10**6, places=12)
multipliers = st.decimals(0, 1000, places=6)
credit_values = st.decimals(Decimal("0.000001"), 100, places=12)


def charged(vendor_cost: str | Decimal, **what_matters: Any) -> Charge:
    """A success, at half as much again, in credits of a cent."""
    terms = {
        "margin_multiplier": Decimal("1.5"),
        "credit_value_usd": CENT,
        "status": "success",
        **what_matters,
    }
    return charge(Decimal(vendor_cost), **terms)


@pytest.mark.parametrize(
    "cost, credits_deducted, charge_usd, margin",
    [
        ("0", 0, "0", "0"),
        ("0.000000000001", 1, "0.01", "0.009999999999"),
        ("0.02", 3, "0.03", "0.01"),
        ("0.020000000001", 4, "0.04", "0.019999999999"),
        ("1.23", 185, "1.85", "0.62"),
    ],
)
def test_a_success_is_charged_the_fewest_credits_that_cover_cost_and_margin(
    cost: str, credits_deducted: int, charge_usd: str, margin: str
) -> None:
    assert charged(cost) == Charge(
        credits_deducted=credits_deducted,
        charge_usd=Decimal(charge_usd),
        gross_margin_usd=Decimal(margin),
    )


@given(cost=costs, multiplier=multipliers, credit=credit_values)
def test_credits_are_the_ceiling_of_the_exact_quotient(
    cost: Decimal, multiplier: Decimal, credit: Decimal
) -> None:
    made = charged(cost, margin_multiplier=multiplier, credit_value_usd=credit)
    exact = Fraction(cost) * Fraction(multiplier) / Fraction(credit)
    assert made.credits_deducted == math.ceil(exact)
    assert Fraction(made.charge_usd) == made.credits_deducted * Fraction(credit)
    assert Fraction(made.gross_margin_usd) == Fraction(made.charge_usd) - Fraction(cost)


@given(cost=costs, multiplier=multipliers, credit=credit_values)
def test_credits_cover_the_price_and_one_less_would_not(
    cost: Decimal, multiplier: Decimal, credit: Decimal
) -> None:
    deducted = charged(cost, margin_multiplier=multiplier, credit_value_usd=credit).credits_deducted
    asked = Fraction(cost) * Fraction(multiplier)
    assert deducted * Fraction(credit) >= asked > (deducted - 1) * Fraction(credit)


@given(cost=costs, status=st.sampled_from(["failed", "cancelled"]))
def test_what_failed_or_was_cancelled_is_charged_nothing_and_its_cost_is_a_loss(
    cost: Decimal, status: Status
) -> None:
    made = charged(cost, status=status)
    assert made == Charge(
        credits_deducted=0, charge_usd=Decimal(0), gross_margin_usd=cost.copy_negate()
    )


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_where_failures_are_charged_they_are_charged_like_a_success(status: Status) -> None:
    assert charged("1.23", status=status, charges_failures=True) == charged("1.23")


def test_a_multiplier_below_one_leaves_a_negative_margin() -> None:
    made = charged("1", margin_multiplier=Decimal("0.5"))
    assert (made.credits_deducted, made.gross_margin_usd) == (50, Decimal("-0.5"))


def test_a_quotient_that_decimals_round_down_is_still_rounded_up() -> None:
    multiplier = Decimal("1.000001")
    # Chosen so that the price ends in ...000000000000000001: its 30th digit.
    cost = Decimal(pow(1_000_001, -1, 10**18) + 10**23).scaleb(-12)
    exact = Fraction(cost) * Fraction(multiplier)
    with localcontext(prec=28):
        assert math.ceil(cost * multiplier) == math.ceil(exact) - 1
    made = charged(cost, margin_multiplier=multiplier, credit_value_usd=Decimal(1))
    assert made.credits_deducted == math.ceil(exact)


def test_arithmetic_does_not_depend_on_the_hosts_decimal_context() -> None:
    expected = charged("123456.789012345678")
    with localcontext() as context:
        context.prec = 3
        assert charged("123456.789012345678") == expected


@pytest.mark.parametrize(
    "cost",
    ["-0.000000000001", "NaN", "sNaN", "Infinity", "1E12", "0.0000000000001", "1E-999999"],
)
def test_a_cost_that_is_not_money_is_refused(cost: str) -> None:
    with pytest.raises(InvalidRecord, match=r"^vendor_cost Decimal"):
        charged(cost)


@pytest.mark.parametrize("multiplier", ["-1", "NaN", "Infinity", "1000000", "1.0000001"])
def test_a_multiplier_that_its_column_does_not_hold_is_refused(multiplier: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^margin_multiplier Decimal"):
        charged("1", margin_multiplier=Decimal(multiplier))


@pytest.mark.parametrize("value", ["0", "-0.01", "NaN", "Infinity", "1E12", "1E-13"])
def test_a_credit_that_is_worth_nothing_or_not_money_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^credit_value_usd Decimal"):
        charged("1", credit_value_usd=Decimal(value))


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(InvalidRecord, match=r"^status 'ok': not one of success, failed, cancelled"):
        charged("1", status="ok")


def test_more_credits_than_bigint_holds_are_refused() -> None:
    grain = Decimal("1E-12")
    most = Decimal(2**63 - 1).scaleb(-12)
    terms: dict[str, Any] = {"margin_multiplier": Decimal(1), "credit_value_usd": grain}
    assert charged(most, **terms).credits_deducted == 2**63 - 1
    with pytest.raises(InvalidRecord, match=f"is {2**63} credits of 1E-12 US dollars"):
        charged(most + grain, **terms)


def test_a_charge_of_more_than_12_digits_is_refused() -> None:
    terms: dict[str, Any] = {"margin_multiplier": Decimal(1), "credit_value_usd": Decimal(1)}
    assert charged("999999999999", **terms).charge_usd == 999_999_999_999
    with pytest.raises(InvalidRecord, match="12 digits of dollars"):
        charged("999999999999.5", **terms)
