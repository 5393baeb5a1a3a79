from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_UP, Decimal, FloatOperation, Inexact, localcontext
from fractions import Fraction
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ledger
from ledger.errors import BudgetExceeded, InvalidArgument, InvalidRecord, LedgerError, UnknownPrice
from ledger.pricing.budget import ExecutionBudget
from ledger.pricing.budget_rates import BudgetRates
from ledger.pricing.price import PriceList
from ledger.records.execution import Execution
from ledger.records.execution_costs import StepCost, ToolCost
from ledger.records.execution_parts import ExecutionCost
from ledger.records.prices import ModelPrice
from ledger.repositories.run_steps import Step

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
MILLION = 1_000_000
BIGINT = 2**63 - 1
RATES = BudgetRates(
    input_cents_per_million=300,
    output_cents_per_million=1500,
    tool_call_cents=2,
    tool_calls_cents={"search": "0.5"},
    external_request_cents=1,
    external_requests_cents={"maps": Decimal("0.25")},
)
PARTS = ("tokens", "tool_calls", "external_requests", "penalties")
NOT_AMOUNTS = [
    -1,
    "-0.000000000001",
    float("nan"),
    "sNaN",
    float("inf"),
    Decimal("-Infinity"),
    10**12,
    "1E+999999999",
    pytest.param(10**5000, id="5,001 digits"),
    True,
    "",
    "a lot",
    b"1",
    [1],
    1 + 0j,
]


def budget(budget_cents: Any = None, **what_matters: Any) -> ExecutionBudget:
    """A budget without a limit, by RATES."""
    return ExecutionBudget("run-1", "backend", budget_cents, **{"rates": RATES, **what_matters})


def model_price(**what_matters: Any) -> ModelPrice:
    """A price of 2 US dollars for input and 8 for output, from March on."""
    values: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-4o",
        "effective_from": MARCH,
        "input_usd_per_million": Decimal(2),
        "output_usd_per_million": Decimal(8),
        "source": "a contract",
        **what_matters,
    }
    return ModelPrice(**values)


def priced(*prices: ModelPrice, **what_matters: Any) -> ExecutionBudget:
    """A budget with a price list, and no rates."""
    return budget(**{"rates": BudgetRates(), "prices": PriceList(prices), **what_matters})


def parts(cost: ExecutionCost) -> dict[str, Decimal]:
    """The parts that the cost has."""
    found = {part: getattr(cost.breakdown, part) for part in PARTS}
    return {part: cents for part, cents in found.items() if cents is not None}


def assert_nothing_accounted(spent: ExecutionBudget) -> None:
    assert spent.metrics() == budget(spent.budget_cents).metrics()
    assert parts(spent.cost()) == {}


# --- rates ---


def test_each_thing_costs_its_rate() -> None:
    spent = budget()
    assert spent.account_tokens(10_000, 2_000) == 6
    assert spent.account_tool_call("deploy") == 2
    assert spent.account_tool_call("search") == Decimal("0.5")
    assert spent.account_external_request("mail", 3) == 3
    assert spent.account_external_request("maps", 3) == Decimal("0.75")
    assert spent.account_external_request("maps") == Decimal("0.25")
    assert spent.account_penalty("1.5", "a retry storm") == Decimal("1.5")
    assert spent.spent_cents == 14


def test_cents_that_are_given_override_the_rate() -> None:
    spent = budget()
    assert spent.account_tool_call("search", 7) == 7
    assert spent.account_tool_call("search", 0) == 0
    assert spent.account_external_request("maps", 4, "0.1") == Decimal("0.4")
    assert spent.spent_cents == Decimal("7.4")


def test_calls_and_requests_without_rates_cost_nothing_and_are_counted() -> None:
    spent = ExecutionBudget("run-1", "backend", 0)
    assert spent.account_tool_call("search") == 0
    assert spent.account_external_request("maps", 5) == 0
    assert spent.metrics().tool_calls == {"search": 1}
    assert spent.metrics().external_requests == {"maps": 5}
    assert not spent.is_exceeded


def test_the_parts_of_tokens_cost_at_the_rates_what_their_totals_cost() -> None:
    whole = budget().account_tokens(1000, 100)
    assert whole == budget().account_tokens(
        1000, 100, cache_read_tokens=500, cache_write_tokens=100, reasoning_tokens=70
    )


RATE_FIELDS = (
    "input_cents_per_million",
    "output_cents_per_million",
    "tool_call_cents",
    "external_request_cents",
)


@pytest.mark.parametrize("rate", [*NOT_AMOUNTS, "1E-13", 0.1 + 0.2, "0." + "1" * 99, "1E-999999"])
def test_a_rate_that_is_not_money_is_refused(rate: Any) -> None:
    for name in RATE_FIELDS:
        with pytest.raises(InvalidArgument, match=f"^{name} .*; pass one"):
            BudgetRates(**{name: rate})
    by_name: dict[str, Any] = {"maps": 1, "search": rate}
    with pytest.raises(InvalidArgument, match=r"^tool_calls_cents\['search'\] .*; pass one"):
        BudgetRates(tool_calls_cents=by_name)
    with pytest.raises(InvalidArgument, match=r"^external_requests_cents\['search'\] .*; pass one"):
        BudgetRates(external_requests_cents=by_name)


@pytest.mark.parametrize(
    "rate", [0, "0E+20", "999999999999.999999999999", "0.000000000001", 0.1, 7, "1.5E3"]
)
def test_a_rate_keeps_its_digits_and_a_float_those_that_it_shows(rate: Any) -> None:
    for name in RATE_FIELDS:
        assert getattr(BudgetRates(**{name: rate}), name) == Decimal(str(rate))


def test_a_float_of_another_library_is_taken_by_its_digits() -> None:
    class Shown(float):
        def __repr__(self) -> str:
            return f"library.float64({float(self)})"

    assert BudgetRates(tool_call_cents=Shown(0.1)).tool_call_cents == Decimal("0.1")


@pytest.mark.parametrize("name", ["", "x" * 256, "nul\0", 5, None])
def test_a_name_has_1_to_255_characters_everywhere(name: Any) -> None:
    spent = budget()
    refusals: list[Callable[[], object]] = [
        lambda: BudgetRates(tool_calls_cents={name: 1}),
        lambda: BudgetRates(external_requests_cents={name: 1}),
        lambda: ExecutionBudget(name, "backend", 1),
        lambda: ExecutionBudget("run-1", name, 1),
        lambda: spent.account_tool_call(name),
        lambda: spent.account_external_request(name),
        lambda: spent.account_penalty(1, name or ""),
    ]
    for refused in refusals:
        with pytest.raises(InvalidRecord, match=r"characters|NUL"):
            refused()
    assert_nothing_accounted(spent)


def test_rates_stay_what_they_were_and_can_be_replaced() -> None:
    by_name = {"search": 1}
    rates = BudgetRates(tool_calls_cents=by_name)
    by_name["search"] = 100
    assert rates.tool_calls_cents == {"search": 1}
    assert rates == BudgetRates(tool_calls_cents={"search": "1.0"})
    with pytest.raises(FrozenInstanceError):
        rates.tool_call_cents = Decimal(1)  # type: ignore[misc]
    assert replace(rates, tool_call_cents=Decimal(3)).tool_calls_cents == {"search": 1}


@pytest.mark.parametrize("rates", [None, [1], 5, "search"])
def test_rates_by_name_are_a_mapping(rates: Any) -> None:
    for named in ("tool_calls_cents", "external_requests_cents"):
        with pytest.raises(InvalidArgument, match=rf"^{named} .* is not a mapping .*; pass one"):
            BudgetRates(**{named: rates})


def test_rates_and_prices_that_are_something_else_are_refused_at_once() -> None:
    with pytest.raises(
        InvalidArgument, match=r"^rates \{'search': 1\} .*; pass ledger.BudgetRates"
    ):
        budget(rates={"search": 1})
    with pytest.raises(InvalidArgument, match=r"^prices \[\] .*; pass ledger.PriceList"):
        budget(prices=[])


def test_no_rates_are_as_those_that_are_left_out() -> None:
    assert budget(rates=None).account_tool_call("search") == 0
    with pytest.raises(UnknownPrice):
        budget(rates=None).account_tokens(1, 1)


@pytest.mark.parametrize("kind", [PriceList, Step, StepCost, ToolCost])
def test_what_a_run_is_made_of_and_told_by_is_public(kind: type[object]) -> None:
    assert getattr(ledger, kind.__name__) is kind
    assert kind.__name__ in ledger.__all__


# --- the price list ---


def test_a_model_costs_what_the_price_list_says_in_cents() -> None:
    price = model_price(
        cache_read_usd_per_million=Decimal("0.2"),
        cache_write_usd_per_million=Decimal("2.5"),
        reasoning_usd_per_million=Decimal(12),
    )
    cost = priced(price, rates=RATES).account_tokens(
        1000,
        50,
        model="gpt-4o",
        provider="openai",
        cache_read_tokens=600,
        cache_write_tokens=300,
        reasoning_tokens=40,
        at=MARCH,
    )
    # US dollars for a million such calls: 100 * 2 + 600 * 0.2 + 300 * 2.5 + 10 * 8 + 40 * 12.
    assert cost == Decimal(1630) * 100 / MILLION


def test_the_price_of_the_moment_counts_and_now_where_none_is_given() -> None:
    day = timedelta(days=1)
    spent = priced(
        model_price(),
        model_price(effective_from=MARCH + day, input_usd_per_million=Decimal(5)),
        model_price(effective_from=datetime(9000, 1, 1, tzinfo=UTC), input_usd_per_million=None),
    )
    assert spent.account_tokens(MILLION, 0, model="gpt-4o", at=MARCH) == 200
    assert spent.account_tokens(MILLION, 0, model="gpt-4o", at=MARCH + day) == 500
    assert spent.account_tokens(MILLION, 0, model="gpt-4o") == 500


@pytest.mark.parametrize("at", [MARCH.replace(tzinfo=None), "2026-03-01", 5])
def test_a_moment_without_a_time_zone_is_refused_with_a_price_or_without(at: Any) -> None:
    spent = priced(model_price(), rates=RATES)
    for model in ("gpt-4o", "gpt-9", None):
        with pytest.raises(InvalidArgument, match=r"^at .* has no time zone; pass an aware"):
            spent.account_tokens(1, 1, model=model, at=at)
    assert_nothing_accounted(spent)


@pytest.mark.parametrize("name", ["", 5, ["gpt-4o"]])
def test_what_names_no_model_provider_or_service_tier_is_refused(name: Any) -> None:
    spent = priced(model_price(), rates=RATES)
    for argument in ("model", "provider", "service_tier"):
        call = {"model": "gpt-4o", "provider": "openai", argument: name}
        with pytest.raises(InvalidRecord, match=rf"^{argument} .* not a text of 1 to 255"):
            spent.account_tokens(1, 1, **call)
    assert_nothing_accounted(spent)


def test_a_model_may_be_named_by_its_place() -> None:
    spent = priced(model_price())
    assert spent.account_tokens(MILLION, 0, "gpt-4o") == 200


def test_the_provider_may_be_left_out_where_one_alone_has_the_model() -> None:
    other = model_price(model="gpt-5", provider="azure")
    spent = priced(model_price(), model_price(model="gpt-5"), other)
    assert spent.account_tokens(MILLION, 0, model="gpt-4o") == 200
    assert spent.account_tokens(MILLION, 0, model="gpt-5", provider="azure") == 200


@pytest.mark.parametrize("rates", [BudgetRates(), RATES])
def test_a_model_of_several_providers_is_refused_with_their_names(rates: BudgetRates) -> None:
    spent = priced(model_price(), model_price(provider="azure"), rates=rates)
    with pytest.raises(InvalidArgument, match=r"'gpt-4o' .* azure, openai; pass provider"):
        spent.account_tokens(1, 1, model="gpt-4o")
    assert_nothing_accounted(spent)


UNPRICED: dict[str, dict[str, Any]] = {
    "no model": {},
    "unknown model": {"model": "gpt-9"},
    "another provider's model": {"model": "gpt-4o", "provider": "azure"},
    "not yet effective": {"model": "gpt-4o", "at": MARCH - timedelta(days=1)},
    "no rate for output": {"model": "in-only"},
    "withdrawn": {"model": "gone"},
    "another service tier": {"model": "flex-only"},
}


def with_gaps(**what_matters: Any) -> ExecutionBudget:
    """A budget with a price list that has no price for any of UNPRICED."""
    no_rates: dict[str, Any] = {"input_usd_per_million": None, "output_usd_per_million": None}
    return priced(
        model_price(),
        model_price(model="in-only", output_usd_per_million=None),
        model_price(model="gone", is_withdrawn=True, **no_rates),
        model_price(model="flex-only", service_tier="flex"),
        **what_matters,
    )


@pytest.mark.parametrize("call", UNPRICED.values(), ids=UNPRICED)
def test_tokens_without_a_price_cost_what_the_rates_say(call: dict[str, Any]) -> None:
    assert with_gaps(rates=RATES).account_tokens(1000, 1000, **call) == Decimal("1.8")
    assert budget().account_tokens(1000, 1000, **call) == Decimal("1.8")


@pytest.mark.parametrize("call", UNPRICED.values(), ids=UNPRICED)
@pytest.mark.parametrize(
    "rates", [BudgetRates(), BudgetRates(input_cents_per_million=1)], ids=["none", "input only"]
)
def test_tokens_of_unknown_price_are_never_free(call: dict[str, Any], rates: BudgetRates) -> None:
    named = re.escape(repr(call["model"])) if call else "no model is named"
    for spent in (with_gaps(rates=rates), budget(rates=rates)):
        with pytest.raises(
            UnknownPrice, match=f"{named}.*; add .*as they begin, or give BudgetRates"
        ):
            spent.account_tokens(1, 1, **call)
        assert_nothing_accounted(spent)


def test_a_rate_is_needed_only_for_tokens_that_there_are() -> None:
    only_input = budget(rates=BudgetRates(input_cents_per_million=300))
    assert only_input.account_tokens(MILLION, 0) == 300
    assert budget(rates=BudgetRates()).account_tokens(0, 0) == 0


def test_an_unknown_price_says_by_default_what_to_do() -> None:
    assert issubclass(UnknownPrice, LedgerError)
    assert "add the model's price, or give the budget rates" in str(UnknownPrice())


# --- the limit ---


def test_a_budget_may_be_spent_to_the_last_cent() -> None:
    spent = budget(100)
    assert spent.remaining_cents == 100
    spent.account_penalty(100)
    assert spent.remaining_cents == 0
    assert not spent.is_exceeded
    assert not spent.metrics().is_exceeded
    spent.require()


def test_a_budget_is_exceeded_by_the_least_that_can_be_spent_beyond_it() -> None:
    spent = budget(100)
    spent.account_penalty("100.000000000001")
    assert spent.is_exceeded
    assert spent.metrics().is_exceeded
    assert spent.remaining_cents == 0
    with pytest.raises(BudgetExceeded):
        spent.require()


def test_without_a_limit_nothing_exceeds_it() -> None:
    spent = budget(None)
    spent.account_penalty(10**11)
    spent.require()
    assert spent.budget_cents is None
    assert spent.remaining_cents is None
    assert not spent.is_exceeded
    assert not spent.metrics().is_exceeded


def test_what_is_spent_beyond_the_budget_is_accounted() -> None:
    spent = budget(1)
    spent.account_penalty(5)
    assert spent.account_tool_call("deploy") == 2
    assert spent.spent_cents == 7


@pytest.mark.parametrize(
    "budget_cents, spent_cents, sums",
    [
        (5000, 10_000, ("$50.00", "$100.00")),
        (0, 1, ("$0.00", "$0.01")),
        ("0.1", "0.50", ("$0.001", "$0.005")),
        ("100.000000000001", 123_456_700, ("$1.00000000000001", "$1234567.00")),
        (0, "0.000000000001", ("$0.00", "$0.00000000000001")),
    ],
)
def test_an_exceeded_budget_is_told_in_dollars(
    budget_cents: Any, spent_cents: Any, sums: tuple[str, str]
) -> None:
    spent = budget(budget_cents)
    spent.account_penalty(spent_cents)
    with pytest.raises(BudgetExceeded) as raised:
        spent.require()
    allocated, of_it = sums
    assert str(raised.value) == (
        f"Execution aborted: Budget exceeded. Allocated: {allocated}, Spent: {of_it}"
    )
    assert isinstance(raised.value, LedgerError)
    assert raised.value.run_id == "run-1"
    assert raised.value.budget_cents == Decimal(budget_cents)
    assert raised.value.spent_cents == Decimal(spent_cents)


def test_an_exceeded_budget_is_the_error_of_an_aborted_execution() -> None:
    spent = budget(1)
    spent.account_tokens(MILLION, 0)
    with pytest.raises(BudgetExceeded) as raised:
        spent.require()
    aborted = Execution(
        run_id=spent.run_id,
        project_id=UUID(int=1),
        user_id=UUID(int=2),
        agent_id=spent.agent_id,
        intent="Deploy the service",
        cost=spent.cost(),
        trace={"duration_ms": 5},
        status="aborted",
        error_message=str(raised.value),
    )
    assert aborted.cost.total == 300


# --- refusals ---


@pytest.mark.parametrize("amount", NOT_AMOUNTS)
def test_an_amount_that_is_not_money_is_refused_and_not_accounted(amount: Any) -> None:
    spent = budget(5)
    refusals: list[Callable[[], object]] = [
        lambda: spent.account_tool_call("search", amount),
        lambda: spent.account_external_request("maps", 1, amount),
        lambda: spent.account_external_request("maps", 0, amount),
        lambda: spent.account_penalty(amount),
    ]
    for refused in refusals:
        with pytest.raises(InvalidArgument, match=r"^cents .* is not an amount of at least 0 US c"):
            refused()
    assert_nothing_accounted(spent)
    with pytest.raises(InvalidArgument, match=r"^budget_cents .* is not an amount of at least 0"):
        budget(amount)


@pytest.mark.parametrize("count", [-1, 2**63, 1.0, True, "5", None, Decimal(5)])
def test_a_count_is_a_whole_number_that_bigint_holds(count: Any) -> None:
    spent = priced(model_price(), rates=RATES)
    with pytest.raises(InvalidArgument, match=rf"^count .* from 0 to {BIGINT}; pass how many"):
        spent.account_external_request("maps", count)
    for model in (None, "gpt-4o"):
        with pytest.raises(InvalidRecord, match=r"^input_tokens .*not a whole number"):
            spent.account_tokens(count, 0, model=model)
        with pytest.raises(InvalidRecord, match=r"^output_tokens .*not a whole number"):
            spent.account_tokens(0, count, model=model)
        with pytest.raises(InvalidRecord, match=r"^reasoning_tokens .*not a whole number"):
            spent.account_tokens(9, 9, model=model, reasoning_tokens=count)
    assert_nothing_accounted(spent)


@pytest.mark.parametrize("name", ["maps", "mail"])
def test_counts_that_no_record_holds_are_refused_and_not_accounted(name: str) -> None:
    spent = budget(rates=None)
    spent.account_external_request("maps", BIGINT)
    spent._counts["tool_calls"] = Counter(search=BIGINT)
    before, cost = spent.metrics(), spent.cost()
    with pytest.raises(InvalidArgument, match=rf"^external_requests .* at most {BIGINT} can be"):
        spent.account_external_request(name)
    with pytest.raises(InvalidArgument, match=rf"^tool_calls .* at most {BIGINT} can be"):
        spent.account_tool_call(name)
    assert (spent.metrics(), spent.cost()) == (before, cost)
    spent.account_external_request(name, 0)


def test_parts_that_are_more_than_their_total_are_refused() -> None:
    spent = budget()
    with pytest.raises(InvalidRecord, match="more than input_tokens, 5"):
        spent.account_tokens(5, 5, cache_read_tokens=3, cache_write_tokens=3)
    with pytest.raises(InvalidRecord, match="more than output_tokens, 5"):
        spent.account_tokens(5, 5, reasoning_tokens=6)
    assert_nothing_accounted(spent)


def test_a_total_that_no_record_holds_is_refused_and_not_accounted() -> None:
    spent = priced(model_price(input_usd_per_million=Decimal(10**11)), rates=RATES)
    spent.account_penalty("999999999999.999999999998")
    before = spent.metrics()
    refusals: list[Callable[[], object]] = [
        lambda: spent.account_penalty("0.000000000002"),
        lambda: spent.account_penalty("999999999999.9999999999999"),
        lambda: spent.account_tool_call("search"),
        lambda: spent.account_external_request("maps", BIGINT, 10**11),
        lambda: spent.account_tokens(MILLION, 0, model="gpt-4o"),
        lambda: spent.account_tokens(BIGINT, BIGINT),
    ]
    for refused in refusals:
        with pytest.raises(InvalidArgument, match=r"(more than|at most) 12 digits before"):
            refused()
    assert spent.metrics() == before
    assert spent.account_penalty("0.000000000001") == Decimal("1E-12")
    assert spent.cost().total == Decimal("999999999999.999999999999")


# --- rounding ---


@pytest.mark.parametrize(
    "given, kept",
    [
        ("0.0000000000005", "0"),
        ("0.0000000000015", "2E-12"),
        ("0.0000000000025", "2E-12"),
        (f"0.0000000000025{'0' * 99}1", "3E-12"),
        ("1E-999999999", "0"),
        (0.1 + 0.2, "0.300000000000"),
    ],
)
def test_an_amount_is_rounded_half_even_to_12_decimals(given: Any, kept: str) -> None:
    spent = budget(given)
    assert spent.budget_cents == Decimal(kept)
    assert spent.account_penalty(given) == Decimal(kept)
    assert spent.account_tool_call("search", given) == Decimal(kept)
    assert spent.metrics().penalties == ((None, Decimal(kept)),)


def test_requests_are_rounded_together_and_tokens_too() -> None:
    tiny = BudgetRates(input_cents_per_million="0.0000005", output_cents_per_million="0.0000005")
    assert budget(rates=tiny).account_tokens(1, 1) == Decimal("1E-12")
    assert budget(rates=tiny).account_tokens(1, 0) == 0
    assert budget().account_external_request("maps", 2, "5E-13") == Decimal("1E-12")
    many = budget().account_external_request("maps", BIGINT, "0." + "0" * 11 + "1" * 80)
    assert Fraction(many) == Fraction(
        round(BIGINT * Fraction("0." + "0" * 11 + "1" * 80) * 10**12), 10**12
    )


def test_arithmetic_does_not_depend_on_the_hosts_decimal_context() -> None:
    def spend() -> tuple[object, ...]:
        prices = PriceList([model_price(input_usd_per_million=Decimal("1.23456789"))])
        spent = budget("98765.4321", prices=prices)
        spent.account_tokens(123_457, 1_234_567)
        spent.account_tokens(123_457, 0, model="gpt-4o")
        spent.account_external_request("maps", 12_345, 0.12345)
        spent.account_tool_call("search", "98765.432109876543")
        with pytest.raises(BudgetExceeded) as raised:
            spent.require()
        left = budget("98765.4321").remaining_cents
        return spent.metrics(), spent.cost(), spent.remaining_cents, str(raised.value), left

    expected = spend()
    with localcontext() as context:
        context.prec, context.rounding = 2, ROUND_UP
        assert spend() == expected
        context.traps[Inexact] = context.traps[FloatOperation] = True
        assert spend() == expected
        context.clear_traps()
        with pytest.raises(InvalidArgument):
            budget("a lot")


# --- what is told ---


def test_metrics_tell_what_is_spent_and_on_what() -> None:
    spent = budget(10)
    spent.account_tokens(1000, 100)
    spent.account_tokens(500, 50)
    spent.account_tool_call("search")
    spent.account_tool_call("search")
    spent.account_tool_call("deploy")
    spent.account_external_request("maps", 3)
    spent.account_external_request("maps")
    spent.account_penalty(6, "a loop")
    spent.account_penalty(1)
    metrics = spent.metrics()
    assert json.loads(json.dumps(metrics.to_dict())) == {
        "budget_cents": "10",
        "total_cents": "11.675",
        "tokens_cents": "0.675",
        "tool_calls_cents": "3",
        "external_requests_cents": "1",
        "penalties_cents": "7",
        "input_tokens": 1500,
        "output_tokens": 150,
        "tool_calls": {"search": 2, "deploy": 1},
        "external_requests": {"maps": 4},
        "penalties": [["a loop", "6"], [None, "1"]],
        "is_exceeded": True,
    }


def test_metrics_stay_those_of_their_moment() -> None:
    spent = budget()
    spent.account_tool_call("search")
    spent.account_external_request("maps")
    spent.account_penalty(1)
    then = spent.metrics()
    told = then.to_dict()
    spent.account_tool_call("search")
    spent.account_external_request("maps")
    spent.account_penalty(1)
    assert then.to_dict() == told
    with pytest.raises(FrozenInstanceError):
        then.total_cents = Decimal(0)  # type: ignore[misc]


def test_a_cost_has_the_parts_that_were_accounted() -> None:
    spent = budget()
    assert spent.cost().total == 0
    assert parts(spent.cost()) == {}
    spent.account_external_request("maps", 0)
    spent.account_tokens(1000, 0)
    assert parts(spent.cost()) == {"tokens": Decimal("0.3"), "external_requests": 0}
    spent.account_tool_call("deploy")
    spent.account_penalty(0)
    assert parts(spent.cost()) == {
        "tokens": Decimal("0.3"),
        "tool_calls": 2,
        "external_requests": 0,
        "penalties": 0,
    }
    assert spent.cost().total == Decimal("2.3")


def test_a_cost_has_no_zeros_that_say_nothing() -> None:
    spent = budget()
    spent.account_penalty("5000.00")
    assert str(spent.cost().total) == "5000"
    assert str(spent.account_tool_call("search")) == "0.5"


# --- threads and tasks ---


@pytest.fixture
def _hurried_threads() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(threads: int, work: Callable[[], None]) -> None:
    begin = Barrier(threads)

    def one() -> None:
        begin.wait()
        work()

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(one) for _ in range(threads)]:
            done.result()


@pytest.mark.usefixtures("_hurried_threads")
def test_totals_are_exact_under_16_threads() -> None:
    spent = priced(model_price(), rates=RATES)

    def work() -> None:
        for _ in range(200):
            spent.account_tokens(1, 1)
            spent.account_tokens(1, 0, model="gpt-4o")
            spent.account_tool_call("search")
            spent.account_external_request("maps", 2)
            spent.account_penalty("0.000000000001", "a loop")

    at_once(16, work)
    metrics, times = spent.metrics(), 16 * 200
    assert metrics.tokens_cents == times * Decimal("0.002")
    assert metrics.tool_calls_cents == times * Decimal("0.5")
    assert metrics.external_requests_cents == times * Decimal("0.5")
    assert metrics.penalties_cents == times * Decimal("1E-12")
    assert metrics.total_cents == spent.spent_cents == times * Decimal("1.002000000001")
    assert (metrics.input_tokens, metrics.output_tokens) == (2 * times, times)
    assert metrics.tool_calls == {"search": times}
    assert metrics.external_requests == {"maps": 2 * times}
    assert len(metrics.penalties) == times


@pytest.mark.usefixtures("_hurried_threads")
def test_metrics_and_costs_are_of_one_moment_while_threads_account() -> None:
    spent = budget(rates=BudgetRates(tool_call_cents=1, external_request_cents=1))

    def work() -> None:
        for turn in range(300):
            spent.account_tool_call(f"tool {turn % 7}")
            spent.account_external_request("maps")
            spent.account_penalty(1)
            metrics, cost = spent.metrics(), spent.cost()
            assert metrics.tool_calls_cents == sum(metrics.tool_calls.values())
            assert metrics.external_requests_cents == metrics.external_requests["maps"]
            assert metrics.penalties_cents == len(metrics.penalties)
            assert metrics.total_cents == (
                metrics.tool_calls_cents + metrics.external_requests_cents + metrics.penalties_cents
            )
            assert cost.total == sum(parts(cost).values())

    at_once(8, work)
    assert spent.spent_cents == 8 * 300 * 3


async def test_tasks_and_threads_may_share_a_budget() -> None:
    spent = budget()

    async def call() -> None:
        await asyncio.sleep(0)
        spent.account_tokens(1000, 0)
        await asyncio.to_thread(spent.account_tool_call, "search")

    await asyncio.gather(*[call() for _ in range(50)])
    assert spent.spent_cents == 50 * Decimal("0.8")


# --- against an oracle ---


def kept(cents: Fraction) -> Fraction:
    """Half-even to 12 decimals, as round() is."""
    return Fraction(round(cents * 10**12), 10**12)


@dataclass
class Oracle:
    """The naivest budget, in fractions of a cent."""

    parts: dict[str, Fraction] = field(default_factory=dict)

    def account(self, part: str, cents: Fraction) -> Fraction:
        self.parts[part] = self.parts.get(part, Fraction(0)) + kept(cents)
        return kept(cents)


amounts = st.decimals(0, 10**6, places=15) | st.integers(0, 10**6) | st.floats(0, 10**6)
rate_amounts = st.decimals(0, 10**6, places=12)
names = st.sampled_from(["search", "deploy", "maps"])
accountings = st.one_of(
    st.tuples(st.just("tokens"), st.integers(0, 10**9), st.integers(0, 10**9)),
    st.tuples(st.just("tool_calls"), names, st.none() | amounts),
    st.tuples(st.just("external_requests"), names, st.integers(0, 10**4), st.none() | amounts),
    st.tuples(st.just("penalties"), amounts, st.none() | st.just("a loop")),
)
rates = st.builds(
    BudgetRates,
    input_cents_per_million=rate_amounts,
    output_cents_per_million=rate_amounts,
    tool_call_cents=rate_amounts,
    tool_calls_cents=st.dictionaries(names, rate_amounts),
    external_request_cents=rate_amounts,
    external_requests_cents=st.dictionaries(names, rate_amounts),
)


def fraction(amount: Decimal | float) -> Fraction:
    return Fraction(str(amount))


def account_on_both(
    spent: ExecutionBudget, oracle: Oracle, by: BudgetRates, accounting: tuple[Any, ...]
) -> None:
    match accounting:
        case "tokens", int(sent), int(made):
            added = spent.account_tokens(sent, made)
            exact = sent * fraction(by.input_cents_per_million or 0)
            exact += made * fraction(by.output_cents_per_million or 0)
            exact /= MILLION
        case "tool_calls", name, cents:
            added = spent.account_tool_call(name, cents)
            rate = by.tool_calls_cents.get(name, by.tool_call_cents) if cents is None else cents
            exact = fraction(rate)
        case "external_requests", name, count, cents:
            added = spent.account_external_request(name, count, cents)
            rate = by.external_requests_cents.get(name, by.external_request_cents)
            exact = count * fraction(rate if cents is None else cents)
        case _, cents, reason:
            added = spent.account_penalty(cents, reason)
            exact = fraction(cents)
        case _:
            raise AssertionError(accounting)
    assert Fraction(added) == oracle.account(accounting[0], exact)


@given(by=rates, sequence=st.lists(accountings, max_size=20), budget_cents=st.none() | rate_amounts)
def test_the_parts_add_up_to_the_whole_whatever_is_accounted(
    by: BudgetRates, sequence: list[tuple[Any, ...]], budget_cents: Decimal | None
) -> None:
    spent, oracle = budget(budget_cents, rates=by), Oracle()
    for accounting in sequence:
        account_on_both(spent, oracle, by, accounting)
    whole = sum(oracle.parts.values(), Fraction(0))
    metrics, cost = spent.metrics(), spent.cost()
    assert Fraction(metrics.total_cents) == Fraction(spent.spent_cents) == whole
    for part in PARTS:
        exact = oracle.parts.get(part, Fraction(0))
        assert Fraction(getattr(metrics, f"{part}_cents")) == exact
    assert {part: Fraction(cents) for part, cents in parts(cost).items()} == oracle.parts
    assert Fraction(cost.total) == whole
    assert metrics.input_tokens == sum(each[1] for each in sequence if each[0] == "tokens")
    assert sum(metrics.tool_calls.values()) == sum(each[0] == "tool_calls" for each in sequence)
    assert sum(metrics.external_requests.values()) == sum(
        each[2] for each in sequence if each[0] == "external_requests"
    )
    assert len(metrics.penalties) == sum(each[0] == "penalties" for each in sequence)
    assert spent.is_exceeded == (budget_cents is not None and whole > Fraction(budget_cents))
    if budget_cents is not None and spent.remaining_cents is not None:
        assert Fraction(spent.remaining_cents) == max(Fraction(budget_cents) - whole, Fraction(0))
