"""Books that are right are clean, whoever asks and however; those that are not are bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from ledger import AsyncLedger, InvalidArgument, Ledger, Window
from ledger.engine import engine
from ledger.errors import PermissionMissing
from ledger.records.billing_reconciliation import Findings
from ledger.window import HOUR
from tests.commands import run
from tests.ledgers import NOW, Books
from tests.reconciling import (
    DAY,
    DEARER,
    FOLD,
    HOURS,
    LAST,
    USAGE,
    WINDOW,
    ask,
    book,
    price,
    reconciled,
    refund,
    tamper,
    unchecked,
)
from tests.roles import roles_of
from tests.writers import sql


def test_a_book_of_everything_is_clean_folded_or_not(books: Books) -> None:
    for days in range(3):
        at = NOW - days * DAY - timedelta(minutes=1)
        book(books, f"success {days}", created_at=at, output_tokens=77_777)
        book(books, f"failed {days}", created_at=at, status="failed")
        book(books, f"stated {days}", created_at=at, vendor_cost="0.123456789012")
        book(books, f"unknown {days}", created_at=at, model="gpt-5")
        book(books, f"no tier {days}", created_at=at, tier="nobody's")
        refund(books, f"success {days}")
    assert reconciled(books).is_clean

    sql(books.url, FOLD)
    books.ledger.billing.add_prices([DEARER, price(model="gpt-5")])
    assert books.ledger.billing.reprice(WINDOW, dry_run=False).booked > 0
    assert reconciled(books).is_clean
    sql(books.url, FOLD)
    books.ledger.billing.add_prices(
        [price(effective_from=DEARER.effective_from + HOUR, output_usd_per_million=Decimal(3))]
    )
    assert books.ledger.billing.reprice(WINDOW, dry_run=False).booked > 0

    found = reconciled(books)

    assert found.is_clean
    assert (found.charges.calls, found.calls.calls, found.calls.bills) == (15, 15, 15)
    assert found.charges.corrections == found.sums.rows - 15 > 3
    assert found.sums.hours == WINDOW.widened(HOUR)
    assert found.sums.days == WINDOW.widened(DAY)
    assert found.calls.compared_from == WINDOW.start
    written = found.to_dict()
    assert (written["is_clean"], written["differences_found"]) == (True, 0)
    assert written["calls"]["never_billed"] == {"count": 0, "first": []}


def test_books_that_nothing_is_in_are_clean(books: Books) -> None:
    found = reconciled(books)
    assert (found.is_clean, found.sums.rows, found.charges.calls) == (True, 0, 0)
    nothing = books.ledger.billing.reconcile(Window(start=NOW, end=NOW))
    assert nothing.is_clean


@pytest.mark.parametrize(
    "input_tokens, cost",
    # At 0.0000025 USD a million: 2.5 and 7.5 units of the last decimal, and beside them.
    [(1, "2"), (3, "8"), (5, "12"), (2, "5")],
)
def test_a_half_is_rounded_to_even_as_it_is_when_booked(
    called: Books, input_tokens: int, cost: str
) -> None:
    called.ledger.billing.add_prices(
        [price(model="tiny", input_usd_per_million=Decimal("0.0000025"))]
    )
    book(called, "r", model="tiny", input_tokens=input_tokens, cache_read_tokens=0, output_tokens=0)
    assert sql(called.url, f"SELECT vendor_cost FROM {USAGE}") == [(Decimal(cost) * LAST,)]
    assert reconciled(called).is_clean


def test_each_kind_of_token_is_priced_by_its_rate_or_by_the_one_it_falls_back_to(
    called: Books,
) -> None:
    rates = {
        "cache_read_usd_per_million": Decimal("0.3"),
        "cache_write_usd_per_million": Decimal("3.7"),
        "reasoning_usd_per_million": Decimal("11.1"),
    }
    for number in range(8):
        some = dict.fromkeys(rates) | {
            name: rate for place, (name, rate) in enumerate(rates.items()) if number >> place & 1
        }
        called.ledger.billing.add_prices([price(model=f"m{number}", **some)])
        book(
            called,
            f"m{number}",
            model=f"m{number}",
            input_tokens=1_001,
            cache_read_tokens=303,
            cache_write_tokens=207,
            output_tokens=503,
            reasoning_tokens=101,
        )
    found = reconciled(called)
    assert (found.is_clean, found.charges.calls) == (True, 8)


def test_only_the_first_findings_of_a_kind_are_kept_and_all_are_counted(called: Books) -> None:
    for number in range(12):
        ask(called, f"call {number:02}", timestamp=NOW - timedelta(hours=number, minutes=1))
    called.ledger.billing.record_usages(
        called.usage(f"bill {number:02}", created_at=NOW - timedelta(hours=number, minutes=1))
        for number in range(13)
    )
    unchecked(called, "margin")
    tamper(called, f"UPDATE {USAGE} SET gross_margin_usd = 1")
    sql(called.url, FOLD)
    sql(called.url, f"UPDATE ledger.{HOURS} SET requests = 0, input_tokens = 0")

    found = reconciled(called, first=3)

    counts: list[Findings[Any]] = [found.sums.differences, found.charges.differences]
    counts += [found.calls.never_billed, found.calls.without_a_call]
    assert [each.count for each in counts] == [26, 13, 12, 13]
    assert [len(each.first) for each in counts] == [3, 3, 3, 3]
    assert [each.request_id for each in found.calls.never_billed.first] == [
        "call 11",
        "call 10",
        "call 09",
    ]
    assert [each.request_id for each in found.charges.differences.first] == [
        "bill 12",
        "bill 11",
        "bill 10",
    ]
    assert found.differences_found == 64
    none = reconciled(called, first=0)
    assert (none.differences_found, none.sums.differences.first) == (64, ())
    for number in (-1, 1_001):
        with pytest.raises(InvalidArgument, match=f"first {number} is not between 0 and 1000"):
            reconciled(called, first=number)


def test_a_window_at_the_end_of_the_calendar_is_refused(called: Books) -> None:
    with pytest.raises(InvalidArgument, match="beyond the calendar"):
        called.ledger.billing.reconcile(
            Window(
                start=datetime(9999, 12, 31, 23, 59, tzinfo=UTC),
                end=datetime.max.replace(tzinfo=UTC),
            )
        )


def test_who_sees_all_may_reconcile_and_nobody_else(called: Books) -> None:
    other = called.ledger.tenancy.upsert_user(tier="pro", external_id="other")
    book(called, "a")
    book(called, "b", user_id=other)
    called.ledger.billing.record_usage(called.usage("no call"))
    with roles_of(called.url) as roles:
        for kind in ("auditor", "service"):
            role = roles.granted(kind)
            with Ledger.connect(role.url) as ledger:
                found = ledger.billing.reconcile(WINDOW)
            assert (found.differences_found, found.charges.calls) == (1, 3)
            narrowed = engine(role.url)
            with narrowed.begin() as connection:
                connection.exec_driver_sql(f"SET LOCAL ledger.user_id = '{other}'")
                with pytest.raises(PermissionMissing, match="does not see every row"):
                    Ledger.bound(connection).billing.reconcile(WINDOW)
            narrowed.dispose()
        for role in (roles.granted("reader", [called.user]), roles.granted("writer")):
            with Ledger.connect(role.url) as ledger, pytest.raises(PermissionMissing):
                ledger.billing.reconcile(WINDOW)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_bound_ledger_reconciles_what_its_callers_transaction_sees(
    called: Books, driver: str
) -> None:
    book(called, "a")
    own = create_engine(make_url(called.url).set(drivername=f"postgresql+{driver}"))
    try:
        with own.connect() as connection:
            bound = Ledger.bound(connection)
            bound.billing.record_usage(called.usage("b"))
            found = bound.billing.reconcile(WINDOW)
            assert [each.request_id for each in found.calls.without_a_call.first] == ["b"]
            assert found.differences_found == 1
            connection.rollback()
        assert reconciled(called).is_clean
    finally:
        own.dispose()


async def test_a_bound_ledger_is_awaited_on_another_driver(called: Books) -> None:

    book(called, "a")
    own = create_async_engine(make_url(called.url).set(drivername="postgresql+asyncpg"))
    try:
        async with own.connect() as connection:
            found = await AsyncLedger.bound(connection).billing.reconcile(WINDOW)
        assert (found.is_clean, found.charges.calls) == (True, 1)
    finally:
        await own.dispose()


def test_the_command_says_what_it_found_and_ends_accordingly(called: Books) -> None:
    at = ("--database-url", called.url)
    book(called, "a")
    clean = run("reconcile", "--billing", *at)
    assert clean.exit_code == 0
    assert "The books are what their rows say." in clean.out

    ask(called, "never billed")
    sql(called.url, FOLD)
    sql(called.url, f"UPDATE ledger.{HOURS} SET requests = 7")
    found = run("reconcile", "--billing", *at)
    assert found.exit_code == 1
    assert "requests is 7 in the sums, 1 in the rows" in found.out
    assert "1 call was never billed" in found.out
    assert "'never billed' of user" in found.out
    as_json = run("reconcile", "--billing", "--json", *at)
    assert as_json.exit_code == 1
    assert as_json.json()["differences_found"] == 2
    assert as_json.json()["sums"]["differences"]["first"][0]["of_sums"] == 7
    refused = run("reconcile", "--billing", "--user", called.user, *at)
    assert refused.exit_code == 2
