from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import permutations
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidArgument, InvalidRecord
from ledger.pricing.price import PriceList, price
from ledger.records.prices import ModelPrice, Priced, Reason, Unpriced
from ledger.records.tokens import TokenCounts

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BIGINT = 2**63 - 1
RATES = (
    "input_usd_per_million",
    "output_usd_per_million",
    "cache_read_usd_per_million",
    "cache_write_usd_per_million",
    "reasoning_usd_per_million",
)
COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


def model_price(**what_matters: Any) -> ModelPrice:
    """A price of 2 US dollars for input and 8 for output, from March on."""
    if not what_matters.get("is_withdrawn") and not what_matters.keys() & set(RATES):
        what_matters |= {"input_usd_per_million": 2, "output_usd_per_million": 8}
    values: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-4o",
        "effective_from": MARCH,
        "source": "a contract",
        **what_matters,
    }
    for rate in RATES:
        if isinstance(values.get(rate), int | str):
            values[rate] = Decimal(values[rate])
    return ModelPrice(**values)


def withdrawn(**what_matters: Any) -> ModelPrice:
    return model_price(is_withdrawn=True, **what_matters)


def outcome(
    tokens: TokenCounts, *prices: ModelPrice, tier: str = "standard", at: datetime = MARCH
) -> Priced | Unpriced:
    return price(tokens, prices, provider="openai", model="gpt-4o", service_tier=tier, at=at)


def cost(*prices: ModelPrice, at: datetime = MARCH, **counts: int) -> Decimal:
    found = outcome(TokenCounts(**counts), *prices, at=at)
    assert isinstance(found, Priced), found
    return found.cost_usd


def reason(*prices: ModelPrice, at: datetime = MARCH, tier: str = "standard", **counts: int) -> str:
    found = outcome(TokenCounts(**counts), *prices, at=at, tier=tier)
    assert isinstance(found, Unpriced), found
    return found.reason


# --- tokens ---


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", [-1, 2**63, 1.0, True, "5", None, Decimal(5)])
def test_a_count_is_a_whole_number_that_bigint_holds(field: str, value: Any) -> None:
    with pytest.raises(InvalidRecord, match=f"^{field} .*: not a whole number from 0 to {BIGINT}$"):
        TokenCounts(**{field: value})


def test_the_greatest_counts_are_accepted() -> None:
    parts = {"cache_read_tokens": BIGINT - 1, "cache_write_tokens": 1, "reasoning_tokens": BIGINT}
    made = TokenCounts(input_tokens=BIGINT, output_tokens=BIGINT, **parts)
    assert made.cache_read_tokens + made.cache_write_tokens == made.input_tokens


@given(whole=st.integers(0, 50), read=st.integers(0, 50), write=st.integers(0, 50))
def test_cached_tokens_are_part_of_input_tokens(whole: int, read: int, write: int) -> None:
    counts = {"input_tokens": whole, "cache_read_tokens": read, "cache_write_tokens": write}
    if read + write <= whole:
        assert TokenCounts(**counts).to_dict() == {
            "output_tokens": 0,
            "reasoning_tokens": 0,
            **counts,
        }
    else:
        rule = f"more than input_tokens, {whole}, which include them"
        with pytest.raises(InvalidRecord, match=f"cache_write_tokens {read + write}: {rule}"):
            TokenCounts(**counts)


def test_reasoning_tokens_are_part_of_output_tokens() -> None:
    with pytest.raises(InvalidRecord, match=r"^reasoning_tokens 6: more than output_tokens, 5, "):
        TokenCounts(output_tokens=5, reasoning_tokens=6)


# --- prices ---


def test_a_price_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        model_price().source = "another"  # type: ignore[misc]


@pytest.mark.parametrize("field", ["provider", "model", "service_tier", "source"])
@pytest.mark.parametrize("value", ["", "x" * 256, "nul\0", "half \ud800 pair", 5, None])
def test_a_name_has_1_to_255_characters_of_unicode(field: str, value: Any) -> None:
    with pytest.raises(InvalidRecord, match=f"^{field} "):
        model_price(**{field: value})
    assert getattr(model_price(**{field: "語" * 255}), field) == "語" * 255


@pytest.mark.parametrize("field", RATES)
@pytest.mark.parametrize(
    "rate",
    [
        "-0.000000000001",
        "NaN",
        "sNaN",
        "Infinity",
        "-Infinity",
        "1000000000000",
        "0.0000000000001",
        "1E-999999",
        "1E+999999",
        "0." + "1" * 100,
    ],
)
def test_a_rate_that_is_not_money_is_refused(field: str, rate: str) -> None:
    with pytest.raises(InvalidRecord, match=f"^{field} Decimal.*: not an amount of at least 0 "):
        model_price(**{**dict.fromkeys(RATES, 1), field: rate})


@pytest.mark.parametrize("field", RATES)
@pytest.mark.parametrize(
    "rate", ["0", "0E+20", "999999999999.999999999999", "0.000000000001", "1.5E3"]
)
def test_a_rate_of_at_most_12_digits_before_and_after_the_point_is_kept(
    field: str, rate: str
) -> None:
    kept = model_price(**{**dict.fromkeys(RATES, 1), field: rate})
    assert getattr(kept, field) == Decimal(rate)


@pytest.mark.parametrize("rate", [0.1, b"1", [1]])
def test_a_rate_is_a_decimal(rate: Any) -> None:
    with pytest.raises(InvalidRecord, match=r"^input_usd_per_million .*: not a Decimal$"):
        model_price(input_usd_per_million=rate)


@pytest.mark.parametrize("tokens", [-1, 2**63, True, 1.5, "0"])
def test_a_context_is_a_whole_number_of_tokens(tokens: Any) -> None:
    with pytest.raises(InvalidRecord, match=r"^context_tokens_from "):
        model_price(context_tokens_from=tokens)


def test_a_price_is_withdrawn_exactly_where_it_has_no_rates() -> None:
    assert withdrawn().rates == (None,) * 5
    for rate in RATES:
        with pytest.raises(InvalidRecord, match=f"^{rate} .*a withdrawn price has none"):
            withdrawn(**{rate: 0})
    with pytest.raises(InvalidRecord, match=r"needs input_usd_per_million or output_usd_per_mil"):
        model_price(input_usd_per_million=None)
    with pytest.raises(InvalidRecord, match=r"needs input_usd_per_million or output_usd_per_mil"):
        model_price(cache_read_usd_per_million=1)


def test_a_price_begins_at_a_moment_that_is_kept_in_utc() -> None:
    in_kathmandu = MARCH.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert model_price(effective_from=in_kathmandu) == model_price(effective_from=MARCH)
    assert model_price(effective_from=in_kathmandu).effective_from.tzinfo is UTC


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 3, 1),  # noqa: DTZ001 - that is the test
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        "2026-03-01T00:00:00Z",
    ],
)
def test_a_moment_that_is_naive_or_out_of_range_is_refused(moment: Any) -> None:
    with pytest.raises(InvalidRecord, match=r"^effective_from "):
        model_price(effective_from=moment)


# --- what a call costs ---


def test_each_token_is_billed_once_at_the_rate_of_its_kind() -> None:
    rates = dict(zip(RATES, ("3", "15", "0.3", "3.75", "20"), strict=True))
    counts = TokenCounts(
        input_tokens=1000,
        cache_read_tokens=600,
        cache_write_tokens=300,
        output_tokens=50,
        reasoning_tokens=40,
    )
    found = outcome(counts, model_price(**rates))
    assert isinstance(found, Priced)
    assert [
        (each.kind, each.tokens, each.usd_per_million, each.cost_usd) for each in found.items
    ] == [
        ("input", 100, 3, Decimal("0.0003")),
        ("cache_read", 600, Decimal("0.3"), Decimal("0.00018")),
        ("cache_write", 300, Decimal("3.75"), Decimal("0.001125")),
        ("output", 10, 15, Decimal("0.00015")),
        ("reasoning", 40, 20, Decimal("0.0008")),
    ]
    assert found.cost_usd == Decimal("0.002555")


def test_a_cache_without_a_rate_is_billed_like_other_input() -> None:
    whole = cost(model_price(), input_tokens=900)
    assert whole == Decimal("0.0018")
    assert cost(model_price(), input_tokens=900, cache_read_tokens=500) == whole
    assert cost(model_price(), input_tokens=900, cache_write_tokens=900) == whole


def test_reasoning_without_a_rate_is_billed_like_other_output() -> None:
    whole = cost(model_price(), output_tokens=900)
    assert whole == Decimal("0.0072")
    assert cost(model_price(), output_tokens=900, reasoning_tokens=900) == whole


def test_a_kind_without_tokens_is_no_item() -> None:
    found = outcome(TokenCounts(input_tokens=1), model_price())
    assert isinstance(found, Priced)
    assert [each.kind for each in found.items] == ["input"]


def test_no_tokens_of_a_priced_model_cost_nothing() -> None:
    found = outcome(TokenCounts(), model_price())
    assert isinstance(found, Priced)
    assert found.cost_usd == 0
    assert found.items == ()


def test_what_a_price_says_is_free_costs_nothing() -> None:
    assert cost(model_price(input_usd_per_million=0), input_tokens=10**9) == 0


def test_tokens_without_any_rate_are_unpriced_and_never_free() -> None:
    only_input = model_price(input_usd_per_million=2)
    only_output = model_price(output_usd_per_million=8)
    assert reason(only_input, input_tokens=5, output_tokens=1) == "no_rate"
    assert reason(only_input, output_tokens=1, reasoning_tokens=1) == "no_rate"
    assert reason(only_output, input_tokens=1) == "no_rate"
    assert reason(only_output, input_tokens=1, cache_read_tokens=1) == "no_rate"
    assert cost(only_input, input_tokens=5) == Decimal("0.00001")
    assert cost(only_output, output_tokens=5) == Decimal("0.00004")


def test_a_rate_of_its_own_prices_a_cache_where_other_input_has_none() -> None:
    rates = {"output_usd_per_million": 8, "cache_read_usd_per_million": 1}
    assert cost(model_price(**rates), input_tokens=3, cache_read_tokens=3) == Decimal("0.000003")
    assert reason(model_price(**rates), input_tokens=4, cache_read_tokens=3) == "no_rate"


# --- rounding ---


@pytest.mark.parametrize(
    "tokens, kept",
    [(1, "0"), (2, "1E-12"), (3, "2E-12"), (5, "2E-12"), (6, "3E-12"), (7, "4E-12")],
)
def test_a_cost_is_rounded_half_even_to_12_decimals(tokens: int, kept: str) -> None:
    half = model_price(input_usd_per_million="0.0000005")
    assert cost(half, input_tokens=tokens) == Decimal(kept)


def test_a_cost_is_rounded_once_and_not_by_kind() -> None:
    half = model_price(input_usd_per_million="0.0000005", output_usd_per_million="0.0000005")
    found = outcome(TokenCounts(input_tokens=1, output_tokens=1), half)
    assert isinstance(found, Priced)
    assert found.cost_usd == Decimal("1E-12")
    assert sorted(each.cost_usd for each in found.items) == [0, Decimal("1E-12")]


def test_arithmetic_does_not_depend_on_the_hosts_decimal_context() -> None:
    dear = model_price(input_usd_per_million="123456.789012345678")
    with localcontext() as context:
        context.prec = 3
        assert cost(dear, input_tokens=1) == Decimal("0.123456789012")


def test_a_cost_of_more_than_12_digits_is_refused() -> None:
    dear = model_price(input_usd_per_million="999999999999")
    assert cost(dear, input_tokens=10**6) == 999999999999
    with pytest.raises(InvalidRecord, match=r"^cost_usd .*more than 12 digits before the decimal"):
        cost(dear, input_tokens=10**6 + 1)
    with pytest.raises(InvalidRecord, match=r"^cost_usd "):
        cost(dear, input_tokens=BIGINT)
    with pytest.raises(InvalidRecord, match=r"^cost_usd "):
        cost(model_price(input_usd_per_million=10**6), input_tokens=10**12)


# --- which price holds ---


def test_a_price_holds_from_its_moment_until_the_next_ones() -> None:
    prices = [
        model_price(input_usd_per_million=1),
        model_price(input_usd_per_million=5, effective_from=MARCH + DAY),
        model_price(input_usd_per_million=9, effective_from=MARCH + 2 * DAY),
    ]
    instant = timedelta(microseconds=1)
    for at, rate in [
        (MARCH, 1),
        (MARCH + DAY - instant, 1),
        (MARCH + DAY, 5),
        (MARCH + 2 * DAY - instant, 5),
        (MARCH + 2 * DAY, 9),
        (MARCH + 900 * DAY, 9),
    ]:
        for order in permutations(prices):
            assert cost(*order, at=at, input_tokens=10**6) == rate
    assert reason(*prices, at=MARCH - instant) == "not_yet_effective"


def test_the_moment_of_a_call_counts_and_not_its_time_zone() -> None:
    changed = model_price(input_usd_per_million=5, effective_from=MARCH + DAY)
    west = timezone(timedelta(hours=-8))
    prices = (model_price(input_usd_per_million=1), changed)
    assert cost(*prices, at=(MARCH + DAY).astimezone(west), input_tokens=10**6) == 5
    assert cost(*prices, at=MARCH.astimezone(west), input_tokens=10**6) == 1


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="2026-03-01T00:00:00 has no time zone"):
        outcome(TokenCounts(), model_price(), at=MARCH.replace(tzinfo=None))


def test_a_moment_that_utc_cannot_say_is_refused() -> None:
    last = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
    with pytest.raises(InvalidArgument, match="outside the years"):
        outcome(TokenCounts(), model_price(), at=last)


def test_a_withdrawn_price_ends_the_one_before_it_until_another_begins() -> None:
    prices = (
        model_price(input_usd_per_million=1),
        withdrawn(effective_from=MARCH + DAY),
        model_price(input_usd_per_million=3, effective_from=MARCH + 2 * DAY),
    )
    assert cost(*prices, input_tokens=10**6) == 1
    assert reason(*prices, at=MARCH + DAY) == "withdrawn"
    assert cost(*prices, at=MARCH + 2 * DAY, input_tokens=10**6) == 3


def test_the_greatest_context_that_a_call_reaches_prices_all_of_its_tokens() -> None:
    prices = (
        model_price(context_tokens_from=200_001, input_usd_per_million=4, output_usd_per_million=9),
        model_price(input_usd_per_million=2, output_usd_per_million=8),
        model_price(context_tokens_from=500_001, input_usd_per_million=7, output_usd_per_million=9),
    )
    for order in permutations(prices):
        assert cost(*order, input_tokens=200_000, output_tokens=100) == Decimal("0.4008")
        assert cost(*order, input_tokens=200_001, output_tokens=100) == Decimal("0.800904")
        assert cost(*order, input_tokens=500_001) == Decimal("3.500007")


def test_cached_tokens_count_towards_the_context() -> None:
    long = model_price(context_tokens_from=200_001, input_usd_per_million=4)
    prices = (model_price(input_usd_per_million=2, cache_read_usd_per_million=1), long)
    assert cost(*prices, input_tokens=200_001, cache_read_tokens=200_000) == Decimal("0.800004")


def test_each_context_size_has_its_own_dates() -> None:
    prices = (
        model_price(input_usd_per_million=1),
        model_price(input_usd_per_million=2, effective_from=MARCH + 2 * DAY),
        model_price(context_tokens_from=100, input_usd_per_million=9, effective_from=MARCH + DAY),
    )
    assert cost(*prices, input_tokens=100) == Decimal("0.0001")
    assert cost(*prices, at=MARCH + DAY, input_tokens=100) == Decimal("0.0009")
    assert cost(*prices, at=MARCH + 2 * DAY, input_tokens=100) == Decimal("0.0009")
    assert cost(*prices, at=MARCH + 2 * DAY, input_tokens=99) == Decimal("0.000198")


def test_where_a_context_size_is_withdrawn_the_next_smaller_one_holds() -> None:
    prices = (
        model_price(input_usd_per_million=1),
        model_price(context_tokens_from=100, input_usd_per_million=9),
        withdrawn(context_tokens_from=100, effective_from=MARCH + DAY),
    )
    assert cost(*prices, input_tokens=100) == Decimal("0.0009")
    assert cost(*prices, at=MARCH + DAY, input_tokens=100) == Decimal("0.0001")


def test_each_service_tier_has_its_own_price() -> None:
    prices = (model_price(), model_price(service_tier="flex", input_usd_per_million=1))
    found = outcome(TokenCounts(input_tokens=10**6), *prices, tier="flex")
    assert isinstance(found, Priced)
    assert found.cost_usd == 1
    assert found.price is prices[1]


def test_an_unknown_service_tier_is_never_billed_as_standard() -> None:
    assert reason(model_price(), tier="priority", input_tokens=1) == "unknown_service_tier"
    assert reason(model_price(service_tier="flex"), input_tokens=1) == "unknown_service_tier"
    assert reason(model_price(), tier="Standard", input_tokens=1) == "unknown_service_tier"


@pytest.mark.parametrize("other", [{"model": "gpt-4o-mini"}, {"provider": "azure"}])
def test_another_models_price_and_another_providers_are_not_taken(other: dict[str, str]) -> None:
    assert reason(model_price(**other), input_tokens=1) == "unknown_model"


def test_every_reason_is_told_with_the_names_in_question() -> None:
    only_input = model_price(input_usd_per_million=1)
    later = MARCH + DAY
    long = model_price(context_tokens_from=100)
    told = [
        outcome(TokenCounts()),
        outcome(TokenCounts(), model_price(), model_price(service_tier="batch"), tier="flex"),
        outcome(TokenCounts(input_tokens=99), long),
        outcome(TokenCounts(), model_price(effective_from=later)),
        outcome(TokenCounts(), model_price(), withdrawn(effective_from=later), at=later),
        outcome(TokenCounts(output_tokens=7), only_input),
    ]
    of = "of model 'gpt-4o' of provider 'openai'"
    standard = f"{of} in service tier 'standard'"
    march = MARCH.isoformat()
    assert [(each.reason, each.sentence) for each in told if isinstance(each, Unpriced)] == [
        ("unknown_model", f"there is no price {of}"),
        (
            "unknown_service_tier",
            f"there is no price {of} in service tier 'flex'; there are prices for batch, standard",
        ),
        ("unknown_context_size", f"prices {standard} begin at 100 input tokens, and it has 99"),
        (
            "not_yet_effective",
            f"prices {standard} begin on {later.isoformat()}, after {march}",
        ),
        ("withdrawn", f"the price {standard} was withdrawn on 2026-03-02T00:00:00+00:00"),
        (
            "no_rate",
            f"the price {of} from {march} has no rate for output, and the call has 7 such tokens",
        ),
    ]
    assert {each.reason for each in told if isinstance(each, Unpriced)} == set(get_args(Reason))


def test_two_different_prices_of_one_moment_are_refused() -> None:
    other = model_price(input_usd_per_million=3, source="a page")
    with pytest.raises(InvalidRecord, match=r"two prices .* of a contract and of a page; leave"):
        PriceList([model_price(), other])
    with pytest.raises(InvalidRecord, match="two prices"):
        PriceList([model_price(), withdrawn()])


def test_the_same_price_may_be_there_twice() -> None:
    again = model_price(source="a page", input_usd_per_million="2.00", output_usd_per_million=8)
    assert cost(model_price(), again, input_tokens=1) == Decimal("0.000002")


def test_a_list_prices_each_model_by_its_own_prices() -> None:
    made = PriceList([model_price(), model_price(provider="azure", input_usd_per_million=7)])
    million = TokenCounts(input_tokens=10**6)
    asked: dict[str, Any] = {"model": "gpt-4o", "service_tier": "standard", "at": MARCH}
    found = [made.price(million, provider=each, **asked) for each in ("openai", "azure")]
    assert [each.cost_usd for each in found if isinstance(each, Priced)] == [2, 7]


def test_a_price_is_json_without_loss() -> None:
    found = outcome(TokenCounts(input_tokens=3), model_price())
    told = json.loads(json.dumps(found.to_dict()))
    assert told["cost_usd"] == "0.000006"
    assert told["items"][0]["usd_per_million"] == "2"
    assert told["price"]["effective_from"] == "2026-03-01T00:00:00Z"


# --- against an oracle ---

rates = st.none() | st.decimals(0, 10**6, places=12)
moments = st.integers(0, 6).map(lambda days: MARCH + days * DAY)


@st.composite
def prices(draw: st.DrawFn) -> ModelPrice:
    given_rates: dict[str, Any] = draw(st.fixed_dictionaries(dict.fromkeys(RATES, rates)))
    is_priced = given_rates[RATES[0]] is not None or given_rates[RATES[1]] is not None
    return ModelPrice(
        provider="openai",
        model="gpt-4o",
        service_tier=draw(st.sampled_from(["standard", "flex"])),
        context_tokens_from=draw(st.sampled_from([0, 1000, 5000])),
        effective_from=draw(moments),
        is_withdrawn=not is_priced,
        source="a contract",
        **(given_rates if is_priced else {}),
    )


@st.composite
def token_counts(draw: st.DrawFn) -> TokenCounts:
    plain, read, write, output, reasoning = draw(
        st.tuples(*[st.integers(0, 3000) | st.integers(0, 10**9) | st.just(0)] * 5)
    )
    return TokenCounts(
        input_tokens=plain + read + write,
        cache_read_tokens=read,
        cache_write_tokens=write,
        output_tokens=output + reasoning,
        reasoning_tokens=reasoning,
    )


def holding(
    candidates: list[ModelPrice], tier: str, input_tokens: int, at: datetime
) -> ModelPrice | None:
    """The price that holds, by looking at every one of them."""
    latest: dict[int, ModelPrice] = {}
    for each in sorted(candidates, key=lambda each: each.effective_from):
        if each.service_tier == tier and each.effective_from <= at:
            latest[each.context_tokens_from] = each
    reached = [
        (context, each)
        for context, each in latest.items()
        if not each.is_withdrawn and context <= input_tokens
    ]
    return max(reached, key=lambda each: each[0])[1] if reached else None


def exact_costs(tokens: TokenCounts, held: ModelPrice) -> dict[str, Fraction | None]:
    """What each kind costs in fractions of a US dollar, None where there is no rate."""

    def of(count: int, *choices: Decimal | None) -> Fraction | None:
        rate = next((rate for rate in choices if rate is not None), None)
        return None if rate is None else count * Fraction(rate) / 1_000_000

    whole = held.input_usd_per_million, held.output_usd_per_million
    return {
        "input": of(
            tokens.input_tokens - tokens.cache_read_tokens - tokens.cache_write_tokens, whole[0]
        ),
        "cache_read": of(tokens.cache_read_tokens, held.cache_read_usd_per_million, whole[0]),
        "cache_write": of(tokens.cache_write_tokens, held.cache_write_usd_per_million, whole[0]),
        "output": of(tokens.output_tokens - tokens.reasoning_tokens, whole[1]),
        "reasoning": of(tokens.reasoning_tokens, held.reasoning_usd_per_million, whole[1]),
    }


@given(
    tokens=token_counts(),
    candidates=st.lists(prices(), max_size=6, unique_by=lambda each: each.key),
    tier=st.sampled_from(["standard", "flex"]),
    at=moments,
)
def test_a_cost_is_that_of_the_naivest_arithmetic_in_fractions(
    tokens: TokenCounts, candidates: list[ModelPrice], tier: str, at: datetime
) -> None:
    found = outcome(tokens, *candidates, tier=tier, at=at)
    held = holding(candidates, tier, tokens.input_tokens, at)
    counts = {"input": 0} if held is None else exact_costs(tokens, held)
    used = {
        "input": tokens.input_tokens - tokens.cache_read_tokens - tokens.cache_write_tokens,
        "cache_read": tokens.cache_read_tokens,
        "cache_write": tokens.cache_write_tokens,
        "output": tokens.output_tokens - tokens.reasoning_tokens,
        "reasoning": tokens.reasoning_tokens,
    }
    if held is None:
        assert isinstance(found, Unpriced)
        assert found.reason != "no_rate"
        return
    if any(counts[kind] is None for kind, count in used.items() if count):
        assert isinstance(found, Unpriced)
        assert found.reason == "no_rate"
        return
    assert isinstance(found, Priced)
    assert found.price is held
    exact = {kind: Fraction(counts[kind] or 0) for kind, count in used.items() if count}
    # round() of a Fraction is half-even.
    assert found.cost_usd == Decimal(round(sum(exact.values(), Fraction(0)) * 10**12)).scaleb(-12)
    assert sum((each.cost_usd for each in found.items), Decimal(0)) == found.cost_usd
    assert {each.kind: each.tokens for each in found.items} == {
        kind: count for kind, count in used.items() if count
    }
    for each in found.items:
        assert abs(Fraction(each.cost_usd) - exact[each.kind]) < Fraction(1, 10**12)


@given(tokens=token_counts(), candidate=prices())
def test_an_unknown_cost_is_never_nothing(tokens: TokenCounts, candidate: ModelPrice) -> None:
    later = candidate.effective_from + DAY
    dear = replace(model_price(), effective_from=candidate.effective_from)
    for found in (
        outcome(tokens, candidate, tier="unheard", at=later),
        outcome(tokens, candidate, tier=candidate.service_tier, at=candidate.effective_from - DAY),
        outcome(tokens, dear, withdrawn(effective_from=later), at=later),
    ):
        assert isinstance(found, Unpriced)
