"""Every call is billed, and every bill has its call, as far as raw rows are kept."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from ledger import Window
from ledger.window import HOUR
from tests.ledgers import NOW, Books
from tests.reconciling import (
    COST,
    DAY,
    DEARER,
    LAST,
    WINDOW,
    ask,
    book,
    price,
    reconciled,
    refund,
)
from tests.writers import sql


def test_a_call_that_was_never_billed_is_found(books: Books) -> None:
    book(books, "billed")
    ask(books, "forgotten", cost_usd=Decimal("0.5"))
    ask(books, "unknown")

    found = reconciled(books).calls

    assert [
        (each.request_id, each.model, each.telemetry_cost_usd, each.billed_cost_usd)
        for each in found.never_billed.first
    ] == [("forgotten", "gpt-4o", Decimal("0.5"), None), ("unknown", "gpt-4o", None, None)]
    assert (found.never_billed.count, found.calls, found.bills) == (2, 3, 1)
    assert (found.without_a_call.count, found.differing_costs.count) == (0, 0)


@pytest.mark.parametrize("cost", [COST, COST + LAST, None])
def test_a_call_may_be_billed_whenever_for_what_it_cost(
    called: Books, cost: Decimal | None
) -> None:
    ask(called, timestamp=NOW - 4 * DAY, cost_usd=cost)
    called.ledger.billing.record_usage(called.usage(output_tokens=0))
    called.ledger.billing.add_prices(
        [price(effective_from=NOW - DAY, output_usd_per_million=Decimal(10))]
    )
    assert called.ledger.billing.reprice(WINDOW, dry_run=False).booked == 0
    called.ledger.billing.add_prices(
        [price(effective_from=NOW - HOUR, input_usd_per_million=Decimal("3.75"))]
    )
    assert called.ledger.billing.reprice(WINDOW, dry_run=False).booked == 1

    before, after = (
        called.ledger.billing.reconcile(window).calls
        for window in (
            Window(start=WINDOW.start, end=NOW - 3 * DAY),
            Window(start=NOW - DAY, end=WINDOW.end),
        )
    )

    assert (before.calls, before.never_billed.count) == (1, 0)
    # 800 at 3.75 and 200 at 1.25
    assert [each.billed_cost_usd for each in before.differing_costs.first] == (
        [COST] if cost == COST + LAST else []
    )
    assert before.costs_only_in_billing == (cost is None)
    # Its call is not within a day of it.
    assert [each.request_id for each in after.without_a_call.first] == ["r"]


def test_the_bill_of_another_user_is_none(called: Books) -> None:
    other = called.ledger.tenancy.upsert_user(tier="pro", external_id="other")
    called.ledger.billing.record_usage(called.usage(user_id=other))
    ask(called)
    found = reconciled(called).calls
    assert [each.user_id for each in found.never_billed.first] == [called.user]
    assert [each.user_id for each in found.without_a_call.first] == [other]


def test_a_bill_without_a_call_is_found(books: Books) -> None:
    book(books, "a")
    books.ledger.billing.record_usages([books.usage("b"), books.usage("c", status="failed")])

    found = reconciled(books).calls

    assert [
        (each.request_id, each.telemetry_cost_usd, each.billed_cost_usd)
        for each in found.without_a_call.first
    ] == [("b", None, COST), ("c", None, COST)]
    assert (found.without_a_call.count, found.never_billed.count) == (2, 0)


def test_a_call_and_its_bill_may_be_on_either_side_of_the_windows_edge(called: Books) -> None:
    edge = NOW - timedelta(hours=2)
    for request_id, called_at, billed_at in (("a", -1, 1), ("b", 1, -1)):
        ask(called, request_id, timestamp=edge + timedelta(seconds=called_at))
        called.ledger.billing.record_usage(
            called.usage(request_id, created_at=edge + timedelta(seconds=billed_at))
        )
    for window in (Window(start=edge, end=NOW), Window(start=WINDOW.start, end=edge)):
        found = called.ledger.billing.reconcile(window)
        assert (found.is_clean, found.calls.calls, found.calls.bills) == (True, 1, 1)


def test_a_cost_that_differs_is_found_against_the_bill_as_it_was_adjusted(books: Books) -> None:
    for request_id, cost in (("same", COST), ("other", COST + LAST), ("unsaid", None)):
        books.ledger.billing.record_usage(books.usage(request_id))
        ask(books, request_id, cost_usd=cost)
    books.ledger.billing.record_usage(books.usage("unpriced", model="unknown"))
    ask(books, "unpriced", cost_usd=COST)

    found = reconciled(books)

    [difference] = found.calls.differing_costs.first
    assert (difference.request_id, found.calls.differing_costs.count) == ("other", 1)
    assert (difference.telemetry_cost_usd, difference.billed_cost_usd) == (COST + LAST, COST)
    assert (found.calls.costs_only_in_billing, found.calls.costs_only_in_telemetry) == (1, 1)
    assert found.differences_found == 1

    books.ledger.billing.add_prices([DEARER])
    books.ledger.billing.reprice(WINDOW, dry_run=False)
    refund(books, "same")
    adjusted = reconciled(books).calls.differing_costs
    assert [(each.request_id, each.billed_cost_usd) for each in adjusted.first] == [
        ("other", Decimal("0.00525")),
        ("same", Decimal("0.00525")),
    ]


def test_calls_that_cannot_be_linked_are_counted(called: Books) -> None:
    book(called, "a")
    for _ in range(3):
        ask(called, None)
    ask(called, None, timestamp=NOW - 9 * DAY)
    found = reconciled(called)
    assert (found.is_clean, found.calls.calls, found.calls.calls_without_request_id) == (True, 1, 3)


def test_what_is_older_than_the_raw_rows_is_not_compared(called: Books) -> None:
    called.ledger.billing.record_usage(called.usage("old", created_at=NOW - 4 * DAY))
    book(called, "new")
    called.ledger.billing.record_usage(called.usage("no call"))
    sql(
        called.url,
        "UPDATE ledger.installation SET retention ="
        " retention || jsonb_build_object('llm_requests', '2 days')",
    )

    found = reconciled(called).calls

    [(raw_from,)] = sql(called.url, "SELECT ledger.raw_from()")
    assert found.compared_from == raw_from > NOW - 2 * DAY
    assert (found.calls, found.bills) == (1, 2)
    assert [each.request_id for each in found.without_a_call.first] == ["no call"]
    before = called.ledger.billing.reconcile(Window(start=WINDOW.start, end=NOW - 3 * DAY))
    assert (before.is_clean, before.calls.compared_from, before.charges.calls) == (True, None, 1)
