"""Each sum that is not what its rows say is found, and none while others write and fold."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest

from ledger import Ledger, Window
from ledger.records.billing_reconciliation import BillingReconciliation
from ledger.window import HOUR, floor
from tests.ledgers import NOW, Books, at_once
from tests.reconciling import (
    DAY,
    DEARER,
    FOLD,
    HOURS,
    LAST,
    WINDOW,
    book,
    price,
    reconciled,
)
from tests.writers import sql, superuser

USERS = "token_usage_user_days"
LEVELS = (HOURS, "token_usage_days", "token_usage_model_days", USERS)
BINNED = ("token_usage_costs", "token_usage_all_costs")


@pytest.mark.parametrize("level", [*LEVELS, *BINNED])
@pytest.mark.parametrize("later", [(), ("d",)], ids=["folded", "and some not"])
def test_a_sum_that_somebody_changed_is_named(
    called: Books, level: str, later: tuple[str, ...]
) -> None:
    book(called, "a", "b")
    book(called, "c", created_at=NOW - 2 * DAY)
    sql(called.url, FOLD)
    book(called, *later)
    sql(
        called.url,
        f"UPDATE ledger.{level} SET requests = requests + 5"
        f" WHERE bucket = (SELECT min(bucket) FROM ledger.{level})",
    )

    found = reconciled(called)

    [difference] = found.sums.differences.first
    assert found.sums.differences.count == found.differences_found == 1
    bucket = floor(NOW - 2 * DAY, HOUR if level == HOURS else DAY)
    assert (difference.level, difference.bucket) == (level, bucket)
    assert (difference.measure, difference.of_rows, difference.of_sums) == ("requests", 1, 6)
    has_models = level in {"token_usage_model_days", "token_usage_costs"}
    assert difference.status == "success"
    assert (difference.model, difference.tier) == (("gpt-4o", "pro") if has_models else (None,) * 2)
    assert difference.provider == (None if level in {BINNED[1], USERS} else "openai")
    assert difference.user_id == (called.user if level == USERS else None)
    assert (difference.cost_bin is None) == (level in LEVELS)
    assert "requests is 6 in the sums, 1 in the rows" in str(difference)


@pytest.mark.parametrize("level", LEVELS)
def test_the_last_digit_of_each_sum_of_money_is_compared(called: Books, level: str) -> None:
    book(called, "a", "b")
    called.ledger.billing.add_prices([DEARER])
    called.ledger.billing.reprice(WINDOW, dry_run=False)
    sql(called.url, FOLD)
    amounts = [
        f"{prefix}{name}"
        for prefix in ("", "corrected_", "restated_")
        for name in ("vendor_cost", "charge_usd")
    ]
    changed = ", ".join(f"{name} = {name} - {LAST:f}" for name in amounts)
    sql(called.url, f"UPDATE ledger.{level} SET {changed} WHERE requests > 0")

    found = reconciled(called).sums.differences.first

    assert sorted(each.measure for each in found) == sorted(amounts)
    assert all(each.of_rows - each.of_sums == LAST for each in found)


def test_a_delta_that_was_removed_is_missed_at_every_level(called: Books) -> None:
    book(called, "a")
    book(called, "b")
    sql(
        called.url,
        "; ".join(
            f"DELETE FROM ledger.{deltas} WHERE ctid = (SELECT min(ctid) FROM ledger.{deltas})"
            for deltas in ("token_usage_deltas", "token_usage_user_deltas")
        ),
    )

    found = reconciled(called)

    measures = {(each.level, each.measure) for each in found.sums.differences.first}
    expected = {"requests", "input_tokens", "output_tokens", "vendor_cost", "charge_usd"}
    assert measures == {
        *((level, measure) for level in LEVELS for measure in (*expected, "credits_deducted")),
        *((level, "requests") for level in BINNED),
    }
    assert all(each.of_rows == 2 * each.of_sums for each in found.sums.differences.first)


def test_a_group_that_only_the_sums_have_is_found(called: Books) -> None:
    book(called, "a")
    sql(called.url, FOLD)
    sql(called.url, f"UPDATE ledger.{HOURS} SET bucket = bucket - interval '1 hour'")

    found = reconciled(called).sums.differences.first

    requests = [(each.of_rows, each.of_sums) for each in found if each.measure == "requests"]
    assert requests == [(0, 1), (1, 0)]


def test_what_is_outside_of_the_windows_hours_and_days_is_left_alone(called: Books) -> None:
    book(called, "a", created_at=NOW - 3 * DAY)
    book(called, "b")
    sql(called.url, FOLD)
    sql(called.url, f"UPDATE ledger.{HOURS} SET requests = 7")
    window = Window(start=NOW - timedelta(minutes=1), end=NOW)

    found = called.ledger.billing.reconcile(window)

    assert found.sums.differences.count == 1
    assert (found.charges.calls, found.calls.calls) == (1, 1)


def write(books: Books, writer: int) -> None:
    with Ledger.connect(books.url) as ledger:
        for batch in range(8):
            usages = [
                books.usage(
                    f"{writer}-{batch}-{number}",
                    created_at=NOW - timedelta(hours=number % 50, minutes=1),
                    status=("success", "failed")[number % 2],
                    model=("gpt-4o", "unknown")[number % 3 == 0],
                )
                for number in range(60)
            ]
            assert ledger.billing.record_usages(usages, batch_size=20).inserted == 60


def reprice(books: Books) -> None:
    with Ledger.connect(books.url) as ledger:
        for hour in range(1, 6):
            at, rate = DEARER.effective_from + hour * HOUR, Decimal(5 + hour)
            ledger.billing.add_prices([price(effective_from=at, input_usd_per_million=rate)])
            ledger.billing.reprice(WINDOW, dry_run=False)


def test_nothing_is_called_a_difference_while_others_write_reprice_and_fold(called: Books) -> None:
    called.ledger.billing.add_prices([DEARER])
    is_over = threading.Event()
    wrong: list[BillingReconciliation] = []
    polls = 0

    def fold() -> None:
        with superuser(called.url) as owner:
            while not is_over.is_set():
                owner.execute(FOLD.encode())

    def poll() -> None:
        nonlocal polls
        with Ledger.connect(called.url) as ledger:
            while not is_over.is_set():
                found = ledger.billing.reconcile(WINDOW)
                if found.sums.differences.count or found.charges.differences.count:
                    wrong.append(found)
                polls += 1

    around = [threading.Thread(target=action) for action in (fold, poll, poll)]
    for thread in around:
        thread.start()
    try:
        at_once(*(partial(write, called, writer) for writer in range(3)), partial(reprice, called))
    finally:
        is_over.set()
        for thread in around:
            thread.join()

    assert wrong == []
    assert polls > 2
    found = reconciled(called)
    assert (found.sums.differences.count, found.charges.differences.count) == (0, 0)
    assert found.charges.calls == 3 * 8 * 60
