"""Each row is held to its own price, to the last digit, and to what follows from its cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.ledgers import NOW, Books
from tests.reconciling import (
    COST,
    DEARER,
    LAST,
    USAGE,
    WINDOW,
    book,
    price,
    reconciled,
    refund,
    tamper,
    unchecked,
)
from tests.writers import sql


def wrongs(books: Books) -> list[tuple[str, str, str, Any, Any]]:
    found = reconciled(books).charges.differences
    assert found.count == len(found.first)
    assert all(each.user_id == books.user for each in found.first)
    return [
        (each.request_id, each.kind, each.what, each.stored, each.expected) for each in found.first
    ]


def test_a_cost_that_is_off_by_its_last_digit_is_found(books: Books) -> None:
    book(books, "a", "b", "c")
    unchecked(books, "margin")
    tamper(
        books,
        f"UPDATE {USAGE} SET vendor_cost = vendor_cost + {LAST:f} WHERE request_id = 'b'",
    )
    assert wrongs(books) == [
        ("b", "usage", "gross_margin_usd", Decimal("0.00675"), Decimal("0.00675") - LAST),
        ("b", "usage", "vendor_cost", COST + LAST, COST),
    ]
    [_, difference] = reconciled(books).charges.differences.first
    assert str(difference) == (
        f"usage 'b' of user {books.user}: vendor_cost is 0.003250000001, and should be 0.00325"
    )


@pytest.mark.parametrize("rate", ["input", "cache_read", "output"])
def test_a_price_that_was_tampered_with_shows_in_each_call_that_names_it(
    called: Books, rate: str
) -> None:
    book(called, "a", "b")
    tamper(
        called,
        f"UPDATE ledger.model_prices SET {rate}_usd_per_million = {rate}_usd_per_million + {LAST:f}"
        " * 1000000",
        "ledger.model_prices",
    )
    tokens = {"input": 800, "cache_read": 200, "output": 100}[rate]
    assert wrongs(called) == [
        (request_id, "usage", "vendor_cost", COST, COST + tokens * LAST) for request_id in "ab"
    ]


@pytest.mark.parametrize(
    "changed, what, stored, expected",
    [
        ({"model": "gpt-4o-mini"}, "price.model_id", "gpt-4o-mini", "gpt-4o"),
        ({"service_tier": "flex"}, "price.service_tier", "flex", "standard"),
        ({"provider": "other"}, "price.provider_id", None, None),
        ({"effective_from": NOW}, "price.effective_from", None, None),
        ({"context_tokens_from": 2_000}, "price.context_tokens_from", "2000", "1000"),
    ],
    ids=["model", "service tier", "provider", "moment", "context"],
)
def test_a_price_of_something_else_is_found_though_it_asks_the_same(
    called: Books, changed: dict[str, Any], what: str, stored: str | None, expected: str | None
) -> None:
    called.ledger.tenancy.upsert_provider("other")
    book(called, "a", "b")
    [before] = sql(called.url, "SELECT id FROM ledger.model_prices")
    called.ledger.billing.add_prices([price(**changed)])
    tamper(
        called,
        f"UPDATE {USAGE} SET price_id = (SELECT id FROM ledger.model_prices"
        f" WHERE id <> '{before[0]}') WHERE request_id = 'a'",
    )
    [(request_id, kind, found, is_stored, is_expected)] = wrongs(called)
    assert (request_id, kind, found) == ("a", "usage", what)
    assert stored is None or (is_stored, is_expected) == (stored, expected)


def test_a_price_that_is_gone_is_found(called: Books) -> None:
    book(called, "a")
    sql(called.url, f"ALTER TABLE {USAGE} DROP CONSTRAINT token_usage_ledger_price_id_fkey")
    tamper(called, "DELETE FROM ledger.model_prices", "ledger.model_prices")
    [(request_id, _, what, stored, expected)] = wrongs(called)
    assert (request_id, what, expected) == ("a", "price_id", None)
    assert UUID(stored).version == 4


@pytest.mark.parametrize(
    "assignment, check, expected",
    [
        (
            "credits_deducted = 2, charge_usd = 0.02, gross_margin_usd = 0.02 - vendor_cost",
            "credits",
            [("credits_deducted", 2, 1)],
        ),
        (
            "charge_usd = 0.02, gross_margin_usd = 0.02 - vendor_cost",
            "charge",
            [("charge_usd", Decimal("0.02"), Decimal("0.01"))],
        ),
        (
            f"gross_margin_usd = gross_margin_usd + {LAST:f}",
            "margin",
            [("gross_margin_usd", Decimal("0.00675") + LAST, Decimal("0.00675"))],
        ),
        ("margin_multiplier = NULL", "unpriced", [("credits_deducted", 1, None)]),
    ],
    ids=["credits", "charge", "margin", "multiplier"],
)
def test_what_is_charged_follows_from_the_cost(
    called: Books, assignment: str, check: str, expected: list[Any]
) -> None:
    book(called, "a", "b")
    unchecked(called, check)
    tamper(called, f"UPDATE {USAGE} SET {assignment} WHERE request_id = 'a'")
    assert wrongs(called) == [("a", "usage", *each) for each in expected]


def test_a_failed_call_is_charged_nothing_or_all(called: Books) -> None:
    book(called, "a", "b", status="failed", output_tokens=10_000)
    unchecked(called, "credits")
    for request_id, number in (("a", 16), ("b", 15)):
        tamper(
            called,
            f"UPDATE {USAGE} SET credits_deducted = {number}, charge_usd = {number} * 0.01,"
            f" gross_margin_usd = {number} * 0.01 - vendor_cost WHERE request_id = '{request_id}'",
        )
    # 0.10225 x 1.5 = 0.153375
    assert wrongs(called) == [("b", "usage", "credits_deducted", 15, 16)]


def test_an_unpriced_call_that_has_a_cost_is_found(called: Books) -> None:
    book(called, "a", model="unknown")
    unchecked(called, "unpriced")
    tamper(called, f"UPDATE {USAGE} SET vendor_cost = 1")
    assert ("a", "usage", "vendor_cost", 1, None) in wrongs(called)


def test_a_call_and_its_adjustments_together_cost_what_the_last_price_says(books: Books) -> None:
    book(books, "a", "b")
    books.ledger.billing.add_prices([DEARER])
    books.ledger.billing.reprice(WINDOW, dry_run=False)
    assert wrongs(books) == []
    tamper(
        books,
        f"UPDATE {USAGE} SET vendor_cost = vendor_cost - 1, credits_deducted ="
        " credits_deducted + 3, charge_usd = charge_usd + 0.03, gross_margin_usd ="
        " gross_margin_usd + 1.03 WHERE kind = 'adjustment' AND adjusts_id ="
        f" (SELECT id FROM {USAGE} WHERE request_id = 'b')",
    )
    # 800 at 5, 200 at 1.25 and 100 at 10
    new = Decimal("0.00525")
    assert wrongs(books) == [
        ("b", "adjusted", "credits_deducted", 4, Decimal(-149)),
        ("b", "adjusted", "vendor_cost", new - 1, new),
    ]


def test_an_adjustment_by_a_wrong_price_or_of_a_wrong_time_is_found(called: Books) -> None:
    book(called, "a", "b")
    called.ledger.billing.add_prices([DEARER, price(model="other")])
    called.ledger.billing.reprice(WINDOW, dry_run=False)
    tamper(
        called,
        f"UPDATE {USAGE} SET price_id = (SELECT id FROM ledger.model_prices WHERE model_id ="
        " 'other'), adjusts_created_at = adjusts_created_at + interval '1 ms' WHERE kind ="
        f" 'adjustment' AND adjusts_id = (SELECT id FROM {USAGE} WHERE request_id = 'b')",
    )
    found = reconciled(called)
    assert sorted((each.kind, each.what) for each in found.charges.differences.first) == [
        ("adjusted", "vendor_cost"),
        ("adjustment", "adjusts_created_at"),
        ("adjustment", "price.model_id"),
    ]


def test_a_refund_is_no_part_of_the_cost_and_has_to_add_up(called: Books) -> None:
    book(called, "a")
    refund(called, "a")
    assert wrongs(called) == []
    unchecked(called, "charge", "margin")
    tamper(called, f"UPDATE {USAGE} SET charge_usd = -0.02 WHERE kind = 'refund'")
    assert [(kind, what) for _, kind, what, _, _ in wrongs(called)] == [
        ("refund", "charge_usd"),
        ("refund", "gross_margin_usd"),
    ]


@pytest.mark.parametrize(
    "column, false",
    [
        ("model_id", "'another'"),
        ("tier", "'another'"),
        ("service_tier", "'batch'"),
        ("status", "'failed'"),
        ("credit_value_usd", "0.02"),
        ("project_id", "gen_random_uuid()"),
    ],
)
def test_a_correction_under_another_name_than_its_calls_is_found(
    called: Books, column: str, false: str
) -> None:
    book(called, "a")
    refund(called, "a")
    unchecked(called, "charge")
    tamper(
        called,
        "ALTER TABLE ledger.token_usage_ledger DROP CONSTRAINT token_usage_ledger_project_id_fkey;"
        f" UPDATE {USAGE} SET {column} = {false} WHERE kind = 'refund'",
    )
    assert column in {what for _, kind, what, _, _ in wrongs(called) if kind == "refund"}
