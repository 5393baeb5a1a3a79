"""What `ledger seed` invents looks like a real application's calls."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import InvalidArgument, Transaction
from ledger.cli.callers import user_weights
from ledger.cli.catalogue import LogNormal, Price, catalogue_path, models
from ledger.cli.outcomes import TIMEOUT_MS, outcome
from ledger.cli.rhythm import Episode, Trouble
from ledger.cli.seeding import generate, invented_users

END = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAYS = 7
ROWS = 6_000
USERS = invented_users(12, seed=1)
MODELS = {(model.provider, model.model): model for model in models()}


@pytest.fixture(scope="module")
def calls() -> list[Transaction]:
    return seeded()


def seeded(
    rows: int = ROWS, *, seed: int = 1, end: datetime = END, days: int = DAYS
) -> list[Transaction]:
    return list(generate(rows, seed=seed, end=end, days=days, users=USERS))


def share(those: int, of: int) -> float:
    return those / of


def test_the_catalogue_is_of_many_models_of_many_providers() -> None:
    assert len(MODELS) >= 16
    assert len({provider for provider, _ in MODELS}) >= 6
    assert catalogue_path().name == "models.json"


def test_every_model_of_the_catalogue_is_plausible() -> None:
    for model in models():
        assert model.weight > 0
        for part in (model.cached_share, model.reasoning_share, model.streaming_share):
            assert 0 <= part <= 1
        assert 0 < model.error_rate < 0.1
        assert 100 <= model.latency_ms.median < TIMEOUT_MS / 2
        if model.time_to_first_token_ms is not None:
            assert model.time_to_first_token_ms.median < model.latency_ms.median
        if model.price is not None:
            assert model.price.cache_read <= model.price.input <= model.price.cache_write
    assert sum(model.price is None for model in models()) == 1


def test_the_same_seed_gives_the_same_calls_and_ids(calls: list[Transaction]) -> None:
    assert seeded() == calls
    assert [call.id for call in seeded()] == [call.id for call in calls]


def test_another_seed_gives_other_calls(calls: list[Transaction]) -> None:
    assert not {call.id for call in seeded(seed=2)} & {call.id for call in calls}


def test_there_are_exactly_as_many_calls_as_asked_for_inside_the_days_and_in_order(
    calls: list[Transaction],
) -> None:
    assert len(calls) == ROWS
    assert END - timedelta(days=DAYS) <= calls[0].timestamp
    assert calls[-1].timestamp < END
    assert all(one.timestamp <= next_.timestamp for one, next_ in pairwise(calls))


@given(
    rows=st.integers(min_value=0, max_value=40),
    days=st.integers(min_value=1, max_value=100),
    end=st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1)),  # noqa: DTZ001
    seed=st.integers(),
)
@settings(max_examples=25, deadline=None)
def test_any_length_of_time_holds_any_number_of_calls(
    rows: int, days: int, end: datetime, seed: int
) -> None:
    end = end.replace(tzinfo=UTC)
    calls = seeded(rows, seed=seed, end=end, days=days)
    assert len(calls) == rows
    assert all(end - timedelta(days=days, milliseconds=1) < call.timestamp < end for call in calls)


def test_every_id_is_another(calls: list[Transaction]) -> None:
    assert len({call.id for call in calls}) == ROWS


def test_the_first_user_makes_a_quarter_of_the_calls(calls: list[Transaction]) -> None:
    made = Counter(call.user_id for call in calls)
    assert made.most_common(1)[0][0] == USERS[0]
    assert share(made[USERS[0]], ROWS) == pytest.approx(0.25, abs=0.03)
    assert set(made) == set(USERS)


@pytest.mark.parametrize("users", [1, 2, 4, 5, 12, 200])
def test_users_share_all_calls(users: int) -> None:
    weights = user_weights(users)
    assert len(weights) == users
    assert sum(weights) == pytest.approx(1)
    assert weights[1:] == sorted(weights[1:], reverse=True)
    assert weights[0] >= 0.25


def test_one_user_makes_all_calls() -> None:
    only = USERS[:1]
    assert {call.user_id for call in generate(50, seed=1, end=END, days=1, users=only)} == {*only}


def test_afternoons_are_busy_and_weekends_are_not(calls: list[Transaction]) -> None:
    hours = Counter(call.timestamp.hour for call in calls)
    assert hours[14] > 4 * hours[2]
    days = Counter(call.timestamp.weekday() for call in calls)
    assert max(days[5], days[6]) < 0.6 * min(days[day] for day in range(1, 3))


def test_cost_is_exactly_what_the_tokens_cost(calls: list[Transaction]) -> None:
    for call in calls:
        price = MODELS[call.provider, call.model].price
        if price is None:
            assert call.cost_usd is None
            continue
        uncached = call.input_tokens - call.cache_read_tokens - call.cache_write_tokens
        million = Decimal(10**12)
        assert call.cost_usd == (
            uncached * price.input / million
            + call.cache_read_tokens * price.cache_read / million
            + call.cache_write_tokens * price.cache_write / million
            + call.output_tokens * price.output / million
        )


def test_prices_are_exact_to_the_picodollar() -> None:
    price = Price.of({"input": "0.25", "output": "2", "cache_read": "0.025", "cache_write": "0.25"})
    cost = price.cost_usd(
        input_tokens=1_000_003, output_tokens=7, cache_read_tokens=3, cache_write_tokens=0
    )
    assert cost == Decimal("0.250014075")
    with pytest.raises(ValueError, match="finer"):
        Price.of({"input": "0.0000001", "output": "1", "cache_read": "1", "cache_write": "1"})


def test_cached_and_reasoning_tokens_are_parts(calls: list[Transaction]) -> None:
    assert any(call.cache_read_tokens for call in calls)
    assert any(call.cache_write_tokens for call in calls)
    assert any(call.reasoning_tokens for call in calls)
    for call in calls:
        assert call.cache_read_tokens + call.cache_write_tokens <= call.input_tokens
        assert call.reasoning_tokens <= call.output_tokens


def test_no_call_takes_longer_than_its_timeout(calls: list[Transaction]) -> None:
    assert max(call.latency_ms for call in calls) == TIMEOUT_MS
    for call in calls:
        assert (call.latency_ms == TIMEOUT_MS) == (call.error_type == "timeout")
        if call.error_type == "timeout":
            assert call.http_status_code is None


def test_calls_fail_in_every_way_but_seldom(calls: list[Transaction]) -> None:
    failed = [call for call in calls if call.error_type is not None]
    assert 0.005 < share(len(failed), ROWS) < 0.1
    kinds = {call.error_type for call in failed}
    assert {"rate_limit_exceeded", "timeout", "server_error", "cancelled"} <= kinds
    assert all(call.error_message for call in failed)
    refused = [call for call in failed if (call.http_status_code or 0) >= 400]
    assert all(call.output_tokens == 0 and not call.cost_usd for call in refused)


@pytest.mark.parametrize("seed", range(5))
def test_errors_come_in_bursts_of_one_provider(seed: int) -> None:
    calls = seeded(seed=seed)
    failures = Counter(
        (call.provider, call.timestamp.replace(minute=0, second=0, microsecond=0))
        for call in calls
        if call.http_status_code == 429 or (call.http_status_code or 0) >= 500
    )
    worst, count = failures.most_common(1)[0]
    assert count > 8 * failures.total() / (DAYS * 24 * len({provider for provider, _ in MODELS}))
    assert worst[0] in {provider for provider, _ in MODELS}


@pytest.mark.parametrize(
    "trouble, status", [(Trouble.RATE_LIMIT, {429}), (Trouble.OUTAGE, {500, 502, 503, None})]
)
def test_an_episode_fails_in_its_own_way(trouble: Trouble, status: set[int | None]) -> None:
    episode = Episode(provider="openai", trouble=trouble, start=END, end=END, share=1)
    model = MODELS["openai", "gpt-5"]
    random = Random(1)
    assert {outcome(model, episode, random).http_status_code for _ in range(300)} == status


def test_all_calls_have_keys_and_some_have_sessions_agents_and_categories(
    calls: list[Transaction],
) -> None:
    assert all(call.request_id for call in calls)
    for name in ("session_id", "agent_id", "category", "project_id", "service_tier"):
        having = sum(getattr(call, name) is not None for call in calls)
        assert 0.1 < share(having, ROWS) < 1, name
    assert any(call.attributes for call in calls)
    sessions = Counter(call.session_id for call in calls if call.session_id is not None)
    assert max(sessions.values()) > 3


def test_streamed_calls_alone_have_a_first_token(calls: list[Transaction]) -> None:
    first = [call for call in calls if call.time_to_first_token_ms is not None]
    assert len(first) > ROWS / 4
    assert all(call.is_streaming for call in first)


def test_calls_are_drawn_one_by_one() -> None:
    endless = generate(10**12, seed=1, end=END, days=10**3, users=USERS)
    assert len(list(islice(endless, 3))) == 3


def test_what_cannot_be_drawn_is_refused_at_once() -> None:
    with pytest.raises(InvalidArgument, match="rows is -1"):
        generate(-1, seed=1, end=END, days=1, users=USERS)
    with pytest.raises(InvalidArgument, match="days is 0"):
        generate(1, seed=1, end=END, days=0, users=USERS)
    with pytest.raises(InvalidArgument, match="no users"):
        generate(1, seed=1, end=END, days=1, users=[])
    with pytest.raises(InvalidArgument, match="no time zone"):
        generate(1, seed=1, end=END.replace(tzinfo=None), days=1, users=USERS)


def test_a_draw_is_at_least_one_and_at_most_the_bound() -> None:
    draw = LogNormal(median=10, sigma=2, most=100)
    assert draw.at(-10) == 1
    assert draw.at(0) == 10
    assert draw.at(10) == 100
