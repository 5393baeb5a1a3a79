"""History can be repriced: the differences are booked as rows of their own, each once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Context, Decimal, Inexact, localcontext
from typing import Any

import pytest

from ledger import Ledger, Window
from ledger.errors import ConflictingRecord, InvalidArgument
from ledger.records.prices import ModelPrice
from ledger.records.repricing import RepricedModel, Repricing
from ledger.records.usage import Charging
from tests.ledgers import NOW, PRICE, Books, at_once, books_at
from tests.writers import sql

YESTERDAY = NOW - timedelta(days=1)
WINDOW = Window(start=NOW - timedelta(days=3), end=NOW)
TODAY = Window(start=NOW - timedelta(minutes=1), end=NOW + timedelta(hours=1))
COST = Decimal("0.00325")
"""Of 800 input, 200 cached and 100 output tokens at 2.50, 1.25 and 10."""
DOUBLE = Decimal("0.00625")
"""At 5, 2.50 and 17.50."""


def price(**changed: Any) -> ModelPrice:
    values = {name: getattr(PRICE, name) for name in PRICE.__dataclass_fields__}
    return ModelPrice(**{**values, **changed})


DEARER = price(
    effective_from=YESTERDAY,
    input_usd_per_million=Decimal(5),
    cache_read_usd_per_million=Decimal("2.5"),
    output_usd_per_million=Decimal("17.5"),
)


WITHOUT_RATES: dict[str, Any] = {
    "input_usd_per_million": None,
    "cache_read_usd_per_million": None,
    "output_usd_per_million": None,
}


def rows(books: Books, kind: str) -> list[tuple[Any, ...]]:
    return sql(
        books.url,
        "SELECT vendor_cost, credits_deducted, charge_usd, gross_margin_usd"
        f" FROM ledger.token_usage_ledger WHERE kind = '{kind}' ORDER BY adjusts_created_at, id",
    )


def test_a_dry_run_shows_the_differences_and_books_none(books: Books) -> None:
    books.ledger.billing.record_usages([books.usage("a"), books.usage("b", status="failed")])
    before = rows(books, "usage")
    books.ledger.billing.add_prices([DEARER])

    shown = books.ledger.billing.reprice(WINDOW)

    assert shown == Repricing(
        window=WINDOW,
        is_dry_run=True,
        examined=2,
        changed=2,
        newly_priced=0,
        still_unpriced=0,
        booked=0,
        vendor_cost_change_usd=2 * (DOUBLE - COST),
        charge_change_usd=Decimal(0),
        credits_change=0,
        by_model=(
            RepricedModel(
                provider="openai",
                model="gpt-4o",
                requests=2,
                vendor_cost_change_usd=2 * (DOUBLE - COST),
                charge_change_usd=Decimal(0),
                credits_change=0,
            ),
        ),
    )
    assert rows(books, "usage") == before
    assert rows(books, "adjustment") == []


def test_booked_differences_are_rows_of_now_and_history_stays(books: Books) -> None:
    books.ledger.billing.record_usage(
        books.usage(input_tokens=10_000, output_tokens=1_000, created_at=NOW - timedelta(hours=2))
    )
    was = rows(books, "usage")
    books.ledger.billing.add_prices([DEARER])

    booked = books.ledger.billing.reprice(WINDOW, dry_run=False)

    assert (booked.changed, booked.booked, booked.is_dry_run) == (1, 1, False)
    assert rows(books, "usage") == was
    # 9,800 at 2.50, 200 at 1.25 and 1,000 at 10, then at 5, 2.50 and 17.50; 1.5 times, in cents.
    old, new = Decimal("0.03475"), Decimal("0.067")
    assert (was[0][0], was[0][1]) == (old, 6)
    assert rows(books, "adjustment") == [
        (new - old, 5, Decimal("0.05"), Decimal("0.05") - (new - old))
    ]
    then, now = (
        books.ledger.billing.gross_margin(WINDOW, restated=restated) for restated in (False, True)
    )
    assert (then.vendor_cost_usd, then.credits_deducted, then.requests) == (old, 6, 1)
    assert (now.vendor_cost_usd, now.credits_deducted, now.requests) == (new, 11, 1)
    today = books.ledger.billing.gross_margin(TODAY)
    assert (today.vendor_cost_usd, today.requests) == (new - old, 0)


def test_what_was_booked_once_is_not_booked_again(called: Books) -> None:
    called.ledger.billing.record_usages(called.usage(f"r{number}") for number in range(5))
    called.ledger.billing.add_prices([DEARER])
    assert called.ledger.billing.reprice(WINDOW, dry_run=False).booked == 5

    again = called.ledger.billing.reprice(WINDOW, dry_run=False)
    assert (again.examined, again.changed, again.booked) == (5, 0, 0)
    assert len(rows(called, "adjustment")) == 5


def test_two_at_once_book_each_difference_once(called: Books) -> None:
    called.ledger.billing.record_usages(called.usage(f"r{number}") for number in range(50))
    called.ledger.billing.add_prices([DEARER])
    booked: list[int] = []

    def reprice() -> None:
        with Ledger.connect(called.url) as ledger:
            booked.append(ledger.billing.reprice(WINDOW, dry_run=False).booked)

    at_once(*[reprice] * 4)

    assert sum(booked) == 50 == len(rows(called, "adjustment"))
    total = called.ledger.billing.provider_costs(WINDOW, restated=True)[0]
    assert total.vendor_cost_usd == 50 * DOUBLE


def test_a_second_change_of_price_is_the_difference_to_the_first(called: Books) -> None:
    called.ledger.billing.record_usage(called.usage())
    for rate in (5, 1):
        called.ledger.billing.add_prices(
            [
                price(
                    effective_from=YESTERDAY + timedelta(hours=rate == 1),
                    input_usd_per_million=Decimal(rate),
                    cache_read_usd_per_million=None,
                    output_usd_per_million=Decimal(0),
                )
            ]
        )
        called.ledger.billing.reprice(WINDOW, dry_run=False)
    assert [cost for cost, *_ in rows(called, "adjustment")] == [
        Decimal("0.005") - COST,
        Decimal("-0.004"),
    ]
    assert called.ledger.billing.provider_costs(WINDOW, restated=True)[
        0
    ].vendor_cost_usd == Decimal("0.001")


def test_a_late_price_makes_unpriced_calls_priced(books: Books) -> None:
    free = price(
        model="free of charge",
        input_usd_per_million=Decimal(0),
        output_usd_per_million=Decimal(0),
        cache_read_usd_per_million=None,
    )
    for model in ("gpt-5", free.model, "unknown"):
        books.ledger.billing.record_usage(books.usage(model, model=model))
    books.ledger.billing.add_prices([price(model="gpt-5"), free])

    found = books.ledger.billing.reprice(WINDOW, dry_run=False)

    assert (found.examined, found.newly_priced, found.still_unpriced, found.booked) == (3, 2, 1, 2)
    assert sorted(rows(books, "adjustment")) == [
        (Decimal(0), 0, Decimal(0), Decimal(0)),
        (COST, 1, Decimal("0.01"), Decimal("0.01") - COST),
    ]
    again = books.ledger.billing.reprice(WINDOW, dry_run=False)
    assert (again.newly_priced, again.still_unpriced, again.booked) == (0, 1, 0)


def test_a_tier_that_is_said_later_prices_what_waited_for_it(called: Books) -> None:
    called.ledger.billing.record_usage(called.usage(tier="new"))
    called.ledger.tenancy.set_tier("new", 20, effective_from=WINDOW.start)
    assert called.ledger.billing.reprice(WINDOW, dry_run=False).newly_priced == 1
    # 0.00325 x 20 = 0.065
    assert [deducted for _, deducted, *_ in rows(called, "adjustment")] == [7]


def test_a_stated_cost_stays_as_it_was_stated(called: Books) -> None:
    called.ledger.billing.record_usage(called.usage(vendor_cost="0.5"))
    called.ledger.billing.add_prices([DEARER])
    assert called.ledger.billing.reprice(WINDOW, dry_run=False).examined == 0


def test_a_stated_cost_waits_for_its_tier_and_is_booked_as_it_was_stated(books: Books) -> None:
    usage = books.usage(tier="new", vendor_cost="0.5")
    booked = books.ledger.billing.record_usage(usage)
    assert (booked.pricing_status, booked.unpriced_reason) == ("unpriced", "unknown_tier")
    assert books.ledger.billing.record_usage(usage).is_duplicate
    with pytest.raises(ConflictingRecord, match="vendor_cost"):
        books.ledger.billing.record_usage(books.usage(tier="new", vendor_cost="0.6"))
    assert books.ledger.billing.reprice(WINDOW, dry_run=False).still_unpriced == 1

    books.ledger.tenancy.set_tier("new", 2, effective_from=WINDOW.start)
    found = books.ledger.billing.reprice(WINDOW, dry_run=False)

    assert (found.newly_priced, found.booked) == (1, 1)
    assert rows(books, "adjustment") == [(Decimal("0.5"), 100, Decimal(1), Decimal("0.5"))]
    assert books.ledger.billing.reprice(WINDOW, dry_run=False).changed == 0
    assert books.ledger.billing.record_usage(usage).is_duplicate
    assert books.ledger.billing.reconcile(WINDOW).charges.differences.count == 0


def test_a_call_keeps_the_multiplier_that_it_was_first_priced_by(called: Books) -> None:
    called.ledger.billing.record_usage(called.usage(tier="new"))
    for days, multiplier in ((3, 20), (2, 30)):
        begins = NOW - timedelta(days=days)
        called.ledger.tenancy.set_tier("new", multiplier, effective_from=begins)
        called.ledger.billing.reprice(WINDOW, dry_run=False)
    assert [deducted for _, deducted, *_ in rows(called, "adjustment")] == [7]
    assert called.ledger.billing.reprice(WINDOW).changed == 0


def test_a_call_that_no_price_can_be_charged_for_stops_no_other(called: Books) -> None:
    called.ledger.billing.record_usage(called.usage("vast", tier="new", vendor_cost="9e11"))
    called.ledger.billing.record_usage(called.usage("small", tier="new"))
    called.ledger.tenancy.set_tier("new", 20, effective_from=WINDOW.start)
    found = called.ledger.billing.reprice(WINDOW, dry_run=False)
    assert (found.newly_priced, found.still_unpriced) == (1, 1)


def test_a_failed_call_is_charged_no_more_than_it_was(called: Books) -> None:
    called.ledger.billing.record_usage(called.usage(status="failed", input_tokens=1_000_000))
    called.ledger.billing.add_prices([DEARER])
    called.ledger.billing.reprice(WINDOW, dry_run=False)
    [(cost, credits_deducted, charge, _)] = rows(called, "adjustment")
    assert cost > 1
    assert (credits_deducted, charge) == (0, Decimal(0))


def test_calls_outside_the_window_are_left_alone(called: Books) -> None:
    called.ledger.billing.record_usages(
        called.usage(str(moment), created_at=moment)
        for moment in (WINDOW.start, WINDOW.end, WINDOW.start - timedelta(milliseconds=1))
    )
    assert called.ledger.billing.reprice(WINDOW).examined == 1


def test_any_number_of_calls_is_repriced(called: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.write.repricing.BATCH", 7)
    called.ledger.billing.record_usages(
        called.usage(
            f"r{number}",
            status=("success", "failed", "cancelled")[number % 3],
            created_at=YESTERDAY + timedelta(seconds=number // 9),
        )
        for number in range(100)
    )
    called.ledger.billing.add_prices([DEARER])
    found = called.ledger.billing.reprice(WINDOW, dry_run=False)
    assert (found.examined, found.booked) == (100, 100)


def test_a_refunded_call_keeps_its_charge_whatever_it_is_repriced_to(called: Books) -> None:
    called.ledger.billing.record_usages(
        called.usage(name, input_tokens=1_000_000, cache_read_tokens=0) for name in "ab"
    )
    called.ledger.billing.refund(called.user, "a")
    for day, rate in ((3, 1), (2, 9)):
        cheaper_then_dearer = price(
            effective_from=NOW - timedelta(days=day), input_usd_per_million=Decimal(rate)
        )
        called.ledger.billing.add_prices([cheaper_then_dearer])
        assert called.ledger.billing.reprice(WINDOW, dry_run=False).booked == 2
    by_call = sql(
        called.url,
        "SELECT c.request_id, sum(r.credits_deducted)::int, sum(r.vendor_cost)"
        " FROM ledger.token_usage_ledger c JOIN ledger.token_usage_ledger r"
        " ON r.id = c.id OR r.adjusts_id = c.id WHERE c.kind = 'usage' GROUP BY 1 ORDER BY 1",
    )
    assert by_call == [("a", 0, Decimal("9.001")), ("b", 1351, Decimal("9.001"))]
    assert called.ledger.billing.reconcile(WINDOW).charges.differences.count == 0


def test_a_price_that_comes_back_is_booked_again(called: Books) -> None:
    called.ledger.billing.record_usage(called.usage(input_tokens=2_000))
    large: dict[str, Any] = {"context_tokens_from": 1_000}
    costs = []
    for hours, rate in ((4, 5), (3, None), (2, 10), (1, None)):
        begins = YESTERDAY - timedelta(hours=hours)
        changed = (
            {"is_withdrawn": True, **WITHOUT_RATES}
            if rate is None
            else {"input_usd_per_million": Decimal(rate)}
        )
        called.ledger.billing.add_prices([price(effective_from=begins, **large, **changed)])
        assert called.ledger.billing.reprice(WINDOW, dry_run=False).booked == 1
        [cost] = called.ledger.billing.provider_costs(WINDOW, restated=True)
        costs.append(cost.vendor_cost_usd)
    assert costs[1] == costs[3] < costs[0] < costs[2]
    assert called.ledger.billing.reprice(WINDOW).changed == 0


def test_a_failed_call_that_cost_nothing_for_a_while_is_charged_again(
    database_url: str,
) -> None:
    charging = Charging(charges_failures=True)
    with books_at(database_url, charging=charging) as books:
        books.ledger.billing.record_usage(
            books.usage(status="failed", input_tokens=1_000_000, cache_read_tokens=0)
        )
        for hours, rate in ((3, 0), (2, 8)):
            books.ledger.billing.add_prices(
                [
                    price(
                        effective_from=NOW - timedelta(hours=hours),
                        input_usd_per_million=Decimal(rate),
                        output_usd_per_million=Decimal(0),
                        cache_read_usd_per_million=None,
                    )
                ]
            )
            books.ledger.billing.reprice(WINDOW, dry_run=False)
        found = books.ledger.billing.gross_margin(WINDOW, status="failed", restated=True)
        assert (found.vendor_cost_usd, found.credits_deducted) == (Decimal(8), 1200)


def test_a_window_is_asked_for(called: Books) -> None:
    for ask in (called.ledger.billing.reprice, called.ledger.billing.reconcile):
        with pytest.raises(InvalidArgument, match="'7D' is not a Window; say from where to where"):
            ask("7D")  # type: ignore[arg-type]


def test_the_hosts_decimals_are_left_to_the_host(called: Books) -> None:
    calls = [called.usage(f"r{n}", input_tokens=123_456_789 + n) for n in range(3)]
    called.ledger.billing.record_usages(calls)
    called.ledger.billing.add_prices([DEARER])
    with localcontext(Context(prec=3, traps=[Inexact])):
        called.ledger.billing.reprice(WINDOW, dry_run=False)
        margin = called.ledger.billing.gross_margin(WINDOW, restated=True)
        called.ledger.billing.provider_costs(WINDOW)
        called.ledger.billing.margin_trend()
        called.ledger.billing.cost_distribution(WINDOW)
    assert margin.gross_margin_usd == margin.revenue_usd - margin.vendor_cost_usd
    assert called.ledger.billing.reconcile(WINDOW).charges.differences.count == 0
