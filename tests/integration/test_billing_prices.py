"""What a call would cost, by the prices that are stored; and which calls wait for one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from ledger import InvalidArgument, InvalidRecord, Ledger, Window
from ledger.records.billing import UnpricedUsage
from ledger.records.prices import ModelPrice, Priced, Unpriced
from ledger.records.tokens import TokenCounts
from ledger.records.usage import Usage
from tests.ledgers import LONG_AGO, NOW, PRICE, Books
from tests.plans import explained_read
from tests.sent import sent_by_reads
from tests.writers import sql, superuser

TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")

PRICE_THEM = """
INSERT INTO ledger.token_usage_ledger (user_id, id, request_id, kind, adjusts_id,
  adjusts_created_at, provider_id, model_id, status, tier, service_tier, input_tokens,
  output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, usage_source,
  pricing_status, unpriced_reason, vendor_cost, margin_multiplier, credit_value_usd,
  credits_deducted, charge_usd, gross_margin_usd, created_at, attributes)
SELECT user_id, (substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || substr(id::text, 14))::uuid,
  '{kind} of ' || request_id, '{kind}', id, created_at, provider_id, model_id, status, tier,
  service_tier, 0, 0, 0, 0, 0, usage_source, 'stated', NULL, {cost}, 1.5, 0.01, {credits},
  {credits} * 0.01, {credits} * 0.01 - {cost}, at, '{{}}'
FROM (
  SELECT *, lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS hex
  FROM (SELECT *, created_at + INTERVAL '10 s' AS at FROM ledger.token_usage_ledger) AS moved
  WHERE request_id = '{request_id}'
) AS corrected
"""


def correct(books: Books, request_id: str, *, kind: str) -> None:
    """Book a correction of the call."""
    cost, credits_ = ("0.001", "1") if kind == "adjustment" else ("0", "0")
    words = {"kind": kind, "request_id": request_id, "cost": cost, "credits": credits_}
    sql(books.url, PRICE_THEM.format(**words))


def priced(found: Priced | Unpriced) -> Priced:
    assert isinstance(found, Priced)
    return found


# --- price ---


def test_a_call_is_priced_kind_by_kind_and_no_token_is_counted_twice(books: Books) -> None:
    found = priced(books.ledger.billing.price(books.usage()))

    assert [(item.kind, item.tokens, item.cost_usd) for item in found.items] == [
        ("input", 800, Decimal("0.002")),
        ("cache_read", 200, Decimal("0.00025")),
        ("output", 100, Decimal("0.001")),
    ]
    assert found.cost_usd == Decimal("0.00325")
    assert replace(found.price, id=None) == PRICE


def test_a_price_is_what_the_call_is_then_booked_at(books: Books) -> None:
    usage = books.usage(cache_write_tokens=77, reasoning_tokens=33)
    found = priced(books.ledger.billing.price(usage))
    booked = books.ledger.billing.record_usage(usage)
    assert booked.vendor_cost == found.cost_usd
    by = sql(books.url, "SELECT price_id FROM ledger.token_usage_ledger")
    assert by == [(found.price.id,)]


def test_nothing_is_booked_by_pricing(called: Books) -> None:
    called.ledger.billing.price(called.usage())
    assert sql(called.url, "SELECT count(*) FROM ledger.token_usage_ledger") == [(0,)]


def test_a_quote_needs_a_provider_a_model_and_counts_of_tokens_alone(books: Books) -> None:
    quote = {"provider": "openai", "model": "gpt-4o", "input_tokens": 1_000_000}
    assert priced(books.ledger.billing.price(quote)).cost_usd == Decimal("2.5")


def test_a_quote_is_priced_by_what_holds_now_and_a_call_by_what_held_when_it_was_made(
    books: Books,
) -> None:
    dearer = replace(PRICE, effective_from=NOW - timedelta(hours=1), output_usd_per_million=None)
    books.ledger.billing.add_prices(
        [replace(dearer, input_usd_per_million=Decimal(5), cache_read_usd_per_million=None)]
    )
    quote = {"provider": "openai", "model": "gpt-4o", "input_tokens": 1_000_000}
    before = books.usage(output_tokens=0, created_at=NOW - timedelta(hours=2))
    price = books.ledger.billing.price

    assert priced(price(quote)).cost_usd == Decimal(5)
    assert priced(price(quote, at=NOW - timedelta(hours=2))).cost_usd == Decimal("2.5")
    assert priced(price(before)).price.effective_from == LONG_AGO
    assert priced(price(before, at=NOW)).price.effective_from == dearer.effective_from


def test_what_a_usage_states_it_costs_is_no_price(called: Books) -> None:
    found = priced(called.ledger.billing.price(called.usage(vendor_cost=Decimal(7))))
    assert found.cost_usd == Decimal("0.00325")


@pytest.mark.parametrize(
    "changed, reason, said",
    [
        ({"model": "gpt-9"}, "unknown_model", "'gpt-9' of provider 'openai'"),
        ({"provider": "nobody"}, "unknown_model", "'gpt-4o' of provider 'nobody'"),
        ({"service_tier": "batch"}, "unknown_service_tier", "there are prices for standard"),
        ({"created_at": LONG_AGO - timedelta(days=1)}, "not_yet_effective", "2024-01-01"),
    ],
    ids=lambda value: value if isinstance(value, str) and "_" in value else "",
)
def test_what_cannot_be_priced_is_unpriced_with_the_reason_and_never_nothing(
    books: Books, changed: dict[str, Any], reason: str, said: str
) -> None:
    found = books.ledger.billing.price(books.usage(**changed))
    assert isinstance(found, Unpriced)
    assert found.reason == reason
    assert said in found.sentence


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"input_tokens": 5, "cache_read_tokens": 6}, "cache_read_tokens"),
        ({"input_token": 5}, "input_token"),
        ({"output_tokens": -1}, "output_tokens -1"),
        ({"model": ""}, "model ''"),
        ({"created_at": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001 - what is refused
    ],
    ids=["parts over whole", "unknown field", "negative", "no model", "naive time"],
)
def test_a_quote_that_breaks_a_rule_is_refused_by_name(
    called: Books, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRecord, match=said):
        called.ledger.billing.price({"provider": "openai", "model": "gpt-4o", **wrong})
    with pytest.raises(InvalidRecord, match="provider is missing"):
        called.ledger.billing.price({"model": "gpt-4o"})


def test_a_naive_moment_is_refused(called: Books) -> None:
    with pytest.raises(InvalidArgument, match="no time zone"):
        called.ledger.billing.price(called.usage(), at=datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_moment_and_prices_of_another_kind_are_refused(called: Books) -> None:
    billing: Any = called.ledger.billing
    with pytest.raises(InvalidArgument, match="at '2026-01-01' is not a datetime"):
        billing.price(called.usage(), at="2026-01-01")
    with pytest.raises(InvalidArgument, match="at '2026-01-01' is not a datetime"):
        billing.gross_margin("1D", at="2026-01-01")
    with pytest.raises(InvalidArgument, match="put it into a list"):
        billing.add_prices(PRICE)
    with pytest.raises(InvalidRecord, match="openai'}: is no ModelPrice"):
        billing.add_prices([PRICE, {"provider": "openai"}])


def test_a_price_is_asked_for_in_one_statement(called: Books) -> None:
    called.ledger.billing.price(called.usage())
    with sent_by_reads() as sent:
        called.ledger.billing.price(called.usage())
    assert [each.is_opening for each in sent] == [False]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_price_that_a_host_s_transaction_has_added_is_seen_inside_it(
    called: Books, driver: str
) -> None:
    host = create_engine(make_url(called.url).set(drivername=f"postgresql+{driver}"))
    added = replace(PRICE, model="gpt-5")
    usage = called.usage(model="gpt-5")
    try:
        with host.connect() as connection:
            bound = Ledger.bound(connection)
            bound.billing.add_prices([added])
            inside = priced(bound.billing.price(usage))
    finally:
        host.dispose()
    assert inside.cost_usd == Decimal("0.00325")
    assert isinstance(called.ledger.billing.price(usage), Unpriced)


# --- model_prices ---


def test_every_price_of_a_model_is_told_in_the_order_in_which_it_holds(books: Books) -> None:
    later = replace(PRICE, effective_from=NOW, input_usd_per_million=Decimal(3))
    large = replace(PRICE, context_tokens_from=200_001)
    other = replace(PRICE, model="Gpt-5")
    books.ledger.tenancy.upsert_provider("azure")
    elsewhere = replace(PRICE, provider="azure", source="a contract")
    books.ledger.billing.add_prices([large, later, other, elsewhere])

    def told(*arguments: Any, **options: Any) -> list[ModelPrice]:
        found = books.ledger.billing.model_prices(*arguments, **options)
        assert all(price.id is not None for price in found)
        return [replace(price, id=None) for price in found]

    assert told("gpt-4o") == [elsewhere, PRICE, later, large]
    assert told("gpt-4o", provider="openai") == [PRICE, later, large]
    assert told(provider="openai") == [other, PRICE, later, large]
    assert told() == [elsewhere, other, PRICE, later, large]
    assert told("gpt-9") == []


# --- unpriced_usage ---


def waiting(books: Books, *arguments: Any, **options: Any) -> list[UnpricedUsage]:
    found: list[UnpricedUsage] = books.ledger.billing.unpriced_usage(*arguments, **options)
    return found


def recounted(calls: list[Usage], reason: str) -> list[UnpricedUsage]:
    """The groups of these calls, counted one by one."""
    groups: dict[tuple[str, str, str], list[Usage]] = defaultdict(list)
    for call in calls:
        groups[call.provider, call.model, call.service_tier].append(call)
    found = [
        UnpricedUsage(
            provider=provider,
            model=model,
            service_tier=service_tier,
            reason=reason,
            requests=len(group),
            first_created_at=min(call.created_at for call in group),
            last_created_at=max(call.created_at for call in group),
            reasoning_tokens=sum(call.reasoning_tokens for call in group),
            **{name: sum(getattr(call, name) for call in group) for name in TOKENS},
        )
        for (provider, model, service_tier), group in groups.items()
    ]
    return sorted(found, key=lambda each: (-each.requests, each.provider, each.model))


def test_calls_that_wait_for_a_price_are_told_by_what_they_wait_for_most_calls_first(
    books: Books,
) -> None:
    models = ["gpt-5", "Gpt-5", "gpt-6", "gpt-6", "gpt-6"]
    calls = [
        books.usage(
            f"r{number}",
            model=models[number % len(models)],
            created_at=NOW - timedelta(minutes=7 * number),
            input_tokens=100 + number,
            cache_read_tokens=number,
            cache_write_tokens=1,
            reasoning_tokens=number,
            status=("success", "failed")[number % 2],
        )
        for number in range(25)
    ]
    books.ledger.billing.record_usages([*calls, books.usage("priced")])

    assert waiting(books) == recounted(calls, "unknown_model")
    assert waiting(books, limit=1) == recounted(calls, "unknown_model")[:1]
    assert waiting(books, limit=None) == waiting(books)


def test_each_reason_is_told_apart(books: Books) -> None:
    reasons: dict[str, dict[str, Any]] = {
        "unknown_service_tier": {"service_tier": "batch"},
        "not_yet_effective": {"created_at": LONG_AGO - timedelta(days=1)},
        "unknown_tier": {"tier": "nobody's"},
    }
    for reason, changed in reasons.items():
        assert books.ledger.billing.record_usage(
            books.usage(reason, **changed)
        ).unpriced_reason == (reason)
    assert {(each.model, each.reason) for each in waiting(books)} == {
        ("gpt-4o", reason) for reason in reasons
    }


def test_token_sums_beyond_bigint_are_told(called: Books) -> None:
    most = 2**63 - 1
    called.ledger.billing.record_usages(
        [called.usage(f"r{number}", model="gpt-5", input_tokens=most) for number in range(3)]
    )
    assert waiting(called)[0].input_tokens == 3 * most


def test_a_call_that_an_adjustment_has_priced_waits_no_more(called: Books) -> None:
    for request_id in ("a", "b", "c"):
        called.ledger.billing.record_usage(called.usage(request_id, model="gpt-5"))
    assert waiting(called)[0].requests == 3
    correct(called, "a", kind="adjustment")
    assert waiting(called)[0].requests == 2
    # What was given back does not say what the call cost.
    correct(called, "b", kind="refund")
    assert [each.requests for each in waiting(called)] == [2]


def test_a_window_has_the_calls_that_were_made_in_it(books: Books) -> None:
    hours = (1, 2, 3)
    calls = [
        books.usage(f"r{ago}", model="gpt-5", created_at=NOW - timedelta(hours=ago))
        for ago in hours
    ]
    books.ledger.billing.record_usages(calls)
    window = Window(start=NOW - timedelta(hours=2), end=NOW - timedelta(hours=1))

    assert waiting(books, window) == recounted(calls[1:2], "unknown_model")
    assert waiting(books, "1H", at=NOW) == recounted(calls[:1], "unknown_model")
    assert waiting(books, Window(start=NOW, end=NOW)) == []


def test_without_calls_nothing_waits(books: Books) -> None:
    assert waiting(books) == []


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"limit": 0}, "limit 0"),
        ({"limit": "5"}, "limit '5'"),
        ({"window": "2H"}, "2H"),
        ({"at": NOW}, "`at`"),
    ],
    ids=["no limit", "text", "window", "at alone"],
)
def test_a_wrong_argument_is_refused_by_name(
    called: Books, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArgument, match=said):
        waiting(called, **arguments)


MANY = """
INSERT INTO ledger.token_usage_ledger (user_id, id, request_id, kind, provider_id, model_id,
  status, tier, service_tier, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
  reasoning_tokens, usage_source, pricing_status, unpriced_reason, vendor_cost, margin_multiplier,
  credit_value_usd, credits_deducted, charge_usd, gross_margin_usd, created_at, attributes)
SELECT user_id, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
  || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid, 'many ' || n,
  'usage', provider_id, model_id, status, tier, service_tier, 1, 1, 0, 0, 0, usage_source,
  CASE WHEN n % 200 = 0 THEN 'unpriced' ELSE 'stated' END,
  CASE WHEN n % 200 = 0 THEN 'unknown_model' END, CASE WHEN n % 200 > 0 THEN 0.001 END, 1.5, 0.01,
  CASE WHEN n % 200 > 0 THEN 1 END, CASE WHEN n % 200 > 0 THEN 0.01 END,
  CASE WHEN n % 200 > 0 THEN 0.009 END, at, '{}'
FROM ledger.token_usage_ledger,
  LATERAL (SELECT n, created_at - n * INTERVAL '1 minute' AS at
           FROM generate_series(1, 20000) AS n) AS many
"""


@pytest.fixture
def many(called: Books) -> Books:
    """Books of 20,000 calls of which a hundred wait."""
    called.ledger.billing.record_usage(called.usage())
    with superuser(called.url) as owner:
        owner.execute(MANY.encode())
        owner.execute("VACUUM ANALYZE ledger.token_usage_ledger")
    return called


@pytest.mark.parametrize("window", [None, "7D"])
def test_waiting_calls_are_found_by_the_index_of_them(many: Books, window: str | None) -> None:
    with sent_by_reads() as sent:
        found = waiting(many, window)
    assert found[0].requests == (100 if window is None else 50)
    with superuser(many.url) as connection:
        plan = explained_read(connection, sent[-1])
    assert "idx_token_usage_unpriced" in plan.indexes, str(plan)
    assert not plan.read_in_full, str(plan)


def test_the_tokens_of_a_usage_are_all_that_a_price_depends_on(called: Books) -> None:
    usage = called.usage(status="failed", attributes={"a": 1}, latency_ms=5)
    counts = {name: getattr(usage, name) for name in TokenCounts.__dataclass_fields__}
    quote = {"provider": "openai", "model": "gpt-4o", **counts}
    price = called.ledger.billing.price
    assert priced(price(usage)).items == priced(price(quote)).items
