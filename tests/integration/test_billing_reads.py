"""What the billing ledger answers is what its rows add up to, for any window and any filter."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import InvalidArgument, Ledger, Window
from ledger.records.billing import MarginTotals
from ledger.records.usage import Usage
from tests import billing_oracle as oracle
from tests.billing_oracle import Question, Rows
from tests.databases import Databases, Target
from tests.ledgers import CORRECT, LONG_AGO, PRICE
from tests.reconciling import FOLD
from tests.writers import sql

END = datetime(2026, 11, 10, 12, 34, 56, 789_000, tzinfo=UTC)
DAYS = 70
USERS = [UUID(int=number) for number in range(1, 4)]
PROJECTS = [UUID(int=number) for number in range(11, 13)]
MODELS = [("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("käse", "brie"), ("acme", "unpriced")]


def calls() -> Iterator[Usage]:
    """Calls of every kind, at hours and days' borders too."""
    chance = random.Random(7)
    for number in range(600):
        ago = timedelta(seconds=chance.randrange(DAYS * 86_400))
        moment = END - ago
        if number % 10 == 0:
            moment = moment.replace(minute=chance.choice([0, 30]), second=0, microsecond=0)
        provider, model = chance.choice(MODELS)
        yield Usage(
            user_id=chance.choice(USERS),
            request_id=f"r{number}",
            created_at=moment,
            provider=provider,
            model=model,
            status=chance.choice(["success", "success", "success", "failed", "cancelled"]),
            project_id=chance.choice([None, *PROJECTS]),
            input_tokens=chance.randrange(100_000),
            output_tokens=chance.randrange(10_000),
        )


def price(provider: str, model: str) -> Any:
    values = {name: getattr(PRICE, name) for name in PRICE.__dataclass_fields__}
    return type(PRICE)(**{**values, "provider": provider, "model": model})


@pytest.fixture(scope="module")
def filled_url(databases: Databases, target: Target) -> Iterator[str]:
    """Calls and corrections, of which some are folded and some are not; tests only read them."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    with Ledger.connect(url) as ledger:
        for tier, multiplier in (("pro", "1.5"), ("free", "1")):
            ledger.tenancy.set_tier(tier, multiplier, effective_from=LONG_AGO)
        for number, user in enumerate(USERS):
            ledger.tenancy.upsert_user(id=user, tier=("pro", "free")[number % 2])
        for project in PROJECTS:
            ledger.tenancy.upsert_project("a project", id=project)
        for provider in {provider for provider, _ in MODELS}:
            ledger.tenancy.upsert_provider(provider)
        ledger.billing.add_prices([price(*model) for model in MODELS[:3]])
        booked = list(calls())
        ledger.billing.record_usages(booked[:300], batch_size=50)
        sql(url, FOLD)
        ledger.billing.record_usages(booked[300:], batch_size=70)
        sql(url, CORRECT)
    yield url
    databases.drop(name)


@pytest.fixture(scope="module")
def rows(filled_url: str) -> Rows:
    return oracle.rows_of(filled_url)


def moments() -> st.SearchStrategy[datetime]:
    """Any moment of the books, and often an hour's, a half hour's or a day's border."""
    minutes = st.integers(-100, (DAYS + 3) * 24 * 60)
    return st.tuples(minutes, st.sampled_from([1, 30, 60, 24 * 60])).map(
        lambda drawn: (
            END.replace(hour=0, minute=0, second=0, microsecond=0)
            + timedelta(days=2)
            - timedelta(minutes=drawn[0] // drawn[1] * drawn[1])
        )
    )


windows = st.tuples(moments(), moments()).map(lambda pair: Window(start=min(pair), end=max(pair)))
questions = st.builds(
    Question,
    filters=st.fixed_dictionaries(
        {},
        optional={
            "provider": st.sampled_from(["openai", "käse", "nobody's"]),
            "model": st.sampled_from(["gpt-4o", "unpriced"]),
            "user_id": st.sampled_from(USERS),
            "tier": st.sampled_from(["pro", "free"]),
            "project_id": st.sampled_from(PROJECTS),
            "status": st.sampled_from(["success", "failed", "cancelled", None]),
        },
    ),
    restated=st.booleans(),
)
zones = st.sampled_from(
    ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe"]
)
asked_often = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


@asked_often
@given(window=windows, asked=questions)
def test_the_margin_is_what_the_rows_add_up_to(
    ledger: Ledger, rows: Rows, window: Window, asked: Question
) -> None:
    found = ledger.billing.gross_margin(window, restated=asked.restated, **asked.filters)
    filters = {"status": "success", **asked.filters}
    assert found == oracle.gross_margin(
        rows, Question(filters=filters, restated=asked.restated), window
    )


@asked_often
@given(window=windows, asked=questions)
def test_costs_by_provider_and_model_are_what_the_rows_add_up_to(
    ledger: Ledger, rows: Rows, window: Window, asked: Question
) -> None:
    arguments: dict[str, Any] = {"restated": asked.restated, **asked.filters}
    assert list(ledger.billing.provider_costs(window, **arguments)) == oracle.provider_costs(
        rows, asked, window
    )
    assert list(ledger.billing.model_costs(window, **arguments)) == oracle.model_costs(
        rows, asked, window
    )


@asked_often
@given(window=windows, asked=questions, timezone=zones)
def test_the_trend_is_what_the_rows_of_each_day_add_up_to(
    ledger: Ledger, rows: Rows, window: Window, asked: Question, timezone: str
) -> None:
    found = ledger.billing.margin_trend(
        window, timezone=timezone, restated=asked.restated, **asked.filters
    )
    filters = {"status": "success", **asked.filters}
    wanted = oracle.margin_days(
        rows, Question(filters=filters, restated=asked.restated), window, timezone
    )
    assert list(found) == wanted


@asked_often
@given(window=windows, asked=questions, limit=st.integers(1, 4))
def test_the_dearest_users_are_those_of_the_rows(
    ledger: Ledger, rows: Rows, window: Window, asked: Question, limit: int
) -> None:
    found = ledger.billing.user_costs(window, limit, restated=asked.restated, **asked.filters)
    assert list(found) == oracle.user_costs(rows, asked, window, limit)


@asked_often
@given(window=windows, asked=questions)
def test_the_distribution_is_that_of_the_rows_within_its_error(
    ledger: Ledger, rows: Rows, window: Window, asked: Question
) -> None:
    found = ledger.billing.cost_distribution(window, **asked.filters)
    costs = oracle.costs_of_calls(rows, Question(filters=asked.filters), window)

    assert found.requests == len(costs)
    assert found.free_requests + sum(bucket.requests for bucket in found.buckets) == len(costs)
    assert found.average_usd == (sum(costs) / len(costs) if costs else None)
    for percentile, rank in (
        (found.median_usd, 0.5),
        (found.p90_usd, 0.9),
        (found.p95_usd, 0.95),
        (found.p99_usd, 0.99),
    ):
        if percentile is None:
            assert not costs
            continue
        wanted = float(costs[math.ceil(rank * len(costs)) - 1])
        # The sixth digit is rounded.
        assert float(percentile) == pytest.approx(wanted, rel=found.percentile_error + 2e-5)
    for bucket in found.buckets:
        held = [cost for cost in costs if bucket.above_usd < cost <= bucket.up_to_usd]
        assert bucket.requests == len(held)


def test_a_trend_is_of_today_and_the_29_days_before(ledger: Ledger) -> None:
    days = ledger.billing.margin_trend(timezone="Asia/Kolkata")
    assert len(days) == 30
    assert (days[-1].day - days[0].day).days == 29


def test_an_empty_window_is_zeros(ledger: Ledger) -> None:
    window = Window(start=LONG_AGO, end=LONG_AGO)
    found = ledger.billing.gross_margin(window)
    assert isinstance(found.previous, MarginTotals)
    assert (found.requests, found.margin_rate, found.change) == (0, None, None)
    assert found.revenue_usd == Decimal(0)
    assert list(ledger.billing.provider_costs(window)) == []


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"status": "done"}, "status 'done' is none of success, failed, cancelled"),
        ({"user_id": "me"}, "user_id 'me' is not a UUID"),
        ({"project_id": 7}, "project_id 7 is not a UUID"),
        ({"provider": "a\0b"}, "holds a character that no text can"),
        ({"window": "2W"}, "'2W' is not an interval"),
    ],
)
def test_a_wrong_argument_is_named(filled_url: str, wrong: dict[str, Any], words: str) -> None:
    with Ledger.connect(filled_url) as ledger, pytest.raises(InvalidArgument, match=words):
        ledger.billing.gross_margin(**{"window": "1D", **wrong})


@pytest.mark.parametrize("limit", [0, True, 1.5, "5", 2**63])
def test_a_limit_that_is_no_count_is_named(filled_url: str, limit: Any) -> None:
    with (
        Ledger.connect(filled_url) as ledger,
        pytest.raises(InvalidArgument, match=f"limit {limit!r} is not a whole number"),
    ):
        ledger.billing.user_costs("1D", limit)
