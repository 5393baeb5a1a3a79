"""A charge can be given back: as a row of its own, once, and never more than there was."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from ledger import Ledger, Window
from ledger.engine import engine
from ledger.errors import (
    ConflictingRecord,
    InvalidArgument,
    InvalidRecord,
    PermissionMissing,
    UnknownReference,
)
from ledger.records.prices import ModelPrice
from tests.ledgers import NOW, PRICE, Books, at_once
from tests.reconciling import tamper
from tests.roles import roles_of
from tests.writers import sql

WINDOW = Window(start=NOW - timedelta(days=3), end=NOW + timedelta(hours=1))
EARLIER = Window(start=WINDOW.start, end=NOW)
CENT = Decimal("0.01")
CALL: dict[str, Any] = {"vendor_cost": "0.06", "created_at": NOW - timedelta(hours=2)}
"""Charged nine credits."""


@pytest.fixture
def books(books: Books) -> Books:
    books.ledger.billing.record_usage(books.usage("a", **CALL))
    return books


@pytest.fixture
def called(called: Books) -> Books:
    called.ledger.billing.record_usage(called.usage("a", **CALL))
    return called


def refunds(books: Books) -> list[tuple[Any, ...]]:
    return sql(
        books.url,
        "SELECT credits_deducted, charge_usd, vendor_cost, gross_margin_usd, attributes"
        " FROM ledger.token_usage_ledger WHERE kind = 'refund' ORDER BY created_at, id",
    )


def is_clean(books: Books) -> bool:
    found = books.ledger.billing.reconcile(WINDOW)
    return not found.sums.differences.count + found.charges.differences.count


def test_all_that_was_charged_is_given_back_and_what_it_cost_stays(books: Books) -> None:
    booked = books.ledger.billing.refund(books.user, "a", reason="the answer was empty")

    assert (booked.credits_deducted, booked.charge_usd) == (-9, -9 * CENT)
    assert (booked.vendor_cost, booked.pricing_status) == (Decimal(0), "stated")
    assert booked.gross_margin_usd == -9 * CENT
    assert not booked.is_duplicate
    assert refunds(books) == [
        (-9, -9 * CENT, Decimal(0), -9 * CENT, {"reason": "the answer was empty"})
    ]
    then, restated = (
        books.ledger.billing.gross_margin(EARLIER, restated=restated) for restated in (False, True)
    )
    assert (then.requests, then.credits_deducted, then.revenue_usd) == (1, 9, 9 * CENT)
    assert (restated.requests, restated.credits_deducted) == (1, 0)
    assert restated.revenue_usd == 0
    assert restated.vendor_cost_usd == Decimal("0.06") == -restated.gross_margin_usd
    assert is_clean(books)


def test_the_same_refund_again_is_the_one_that_was_booked(books: Books) -> None:
    first = books.ledger.billing.refund(books.user, "a")
    again = books.ledger.billing.refund(books.user, "a")

    assert again.is_duplicate
    assert (again.id, again.credits_deducted) == (first.id, first.credits_deducted)
    assert len(refunds(books)) == 1


def test_parts_are_given_back_each_by_its_own_name_until_nothing_is_left(called: Books) -> None:
    refund = called.ledger.billing.refund
    assert refund(called.user, "a", credits=4, refund_id="complaint 1").credits_deducted == -4
    assert refund(called.user, "a", credits=4, refund_id="complaint 1").is_duplicate
    with pytest.raises(InvalidRecord, match=r"credits 6: 5 are left of what 'a' was charged"):
        refund(called.user, "a", credits=6, refund_id="complaint 2")
    assert refund(called.user, "a", refund_id="complaint 2").credits_deducted == -5
    with pytest.raises(InvalidRecord, match="0 are left"):
        refund(called.user, "a", refund_id="complaint 3")
    assert [returned for returned, *_ in refunds(called)] == [-4, -5]
    assert is_clean(called)


def test_what_an_adjustment_added_is_given_back_too(called: Books) -> None:
    called.ledger.billing.record_usage(called.usage("late", model="gpt-5"))
    with pytest.raises(InvalidRecord, match="0 are left"):
        called.ledger.billing.refund(called.user, "late")
    values = {name: getattr(PRICE, name) for name in PRICE.__dataclass_fields__}
    called.ledger.billing.add_prices([ModelPrice(**{**values, "model": "gpt-5"})])
    assert called.ledger.billing.reprice(WINDOW, dry_run=False).booked == 1

    assert called.ledger.billing.refund(called.user, "late").credits_deducted == -1
    assert called.ledger.billing.reprice(WINDOW, dry_run=False).booked == 0
    assert is_clean(called)


def test_refunds_of_one_call_at_once_give_back_no_more_than_it_was_charged(called: Books) -> None:
    refused: list[str] = []

    def give_back(number: int) -> None:
        with Ledger.connect(called.url) as ledger:
            try:
                ledger.billing.refund(called.user, "a", credits=2, refund_id=f"refund {number}")
            except InvalidRecord as error:
                refused.append(str(error))

    at_once(*[lambda number=number: give_back(number) for number in range(6)])

    assert [returned for returned, *_ in refunds(called)] == [-2] * 4
    assert refused == ["credits 2: 1 are left of what 'a' was charged"] * 2


def test_the_same_refund_at_once_is_booked_once(called: Books) -> None:
    told: list[bool] = []

    def give_back() -> None:
        with Ledger.connect(called.url) as ledger:
            told.append(ledger.billing.refund(called.user, "a").is_duplicate)

    at_once(*[give_back] * 6)

    assert sorted(told) == [False] + [True] * 5
    assert len(refunds(called)) == 1


def test_a_call_that_is_not_booked_cannot_be_given_back(called: Books) -> None:
    refund = called.ledger.billing.refund
    with pytest.raises(UnknownReference, match=r"request_id 'b' of user .*: no such call"):
        refund(called.user, "b")
    with pytest.raises(UnknownReference, match="no such call"):
        refund(UUID(int=1), "a")
    refund(called.user, "a", refund_id="back")
    with pytest.raises(UnknownReference, match=r"'back' .* is itself of kind refund"):
        refund(called.user, "back")


@pytest.mark.parametrize(
    "what, differing",
    [
        ({"credits": 3}, "credits_deducted"),
        ({"reason": "another"}, "attributes"),
        ({"request_id": "b"}, "adjusts_id"),
        ({"refund_id": "b"}, "kind, adjusts_id"),
    ],
)
def test_another_refund_of_the_same_name_is_a_conflict(
    called: Books, what: dict[str, Any], differing: str
) -> None:
    called.ledger.billing.record_usage(called.usage("b", **CALL))
    asked: dict[str, Any] = {"request_id": "a", "credits": 2, "refund_id": "back"}
    called.ledger.billing.refund(called.user, **asked)
    with pytest.raises(ConflictingRecord, match=f"with other {differing}"):
        called.ledger.billing.refund(called.user, **{**asked, **what})
    assert len(refunds(called)) == 1


@pytest.mark.parametrize(
    "what, named",
    [
        ({"user_id": "a"}, "user_id 'a': not a UUID"),
        ({"request_id": ""}, "request_id ''"),
        ({"request_id": "a\0"}, "NUL"),
        ({"refund_id": 3}, "refund_id 3"),
        ({"reason": ""}, "reason ''"),
        ({"credits": 0}, "credits 0"),
        ({"credits": -1}, "credits -1"),
        ({"credits": True}, "credits True"),
        ({"credits": 1.5}, "credits 1.5"),
        ({"credits": 10**30, "refund_id": "b"}, "credits 1000000000"),
        ({"credits": 4}, "refund_id None: a part needs one"),
    ],
)
def test_what_cannot_be_given_back_is_named(
    called: Books, what: dict[str, Any], named: str
) -> None:
    asked: dict[str, Any] = {"user_id": called.user, "request_id": "a", **what}
    with pytest.raises(InvalidRecord, match=named):
        called.ledger.billing.refund(**asked)
    assert refunds(called) == []


def test_a_refund_in_a_transaction_of_the_caller_is_undone_with_it(called: Books) -> None:
    host = engine(called.url)
    with host.connect() as connection:
        Ledger.bound(connection).billing.refund(called.user, "a")
        connection.rollback()
    host.dispose()
    assert refunds(called) == []


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"])
def test_a_transaction_that_does_not_see_what_others_commit_gives_nothing_back(
    called: Books, isolation: str
) -> None:
    host = engine(called.url).execution_options(isolation_level=isolation)
    with host.connect() as connection:
        bound = Ledger.bound(connection).billing
        for correct in (
            lambda: bound.refund(called.user, "a"),
            lambda: bound.reprice(WINDOW, dry_run=False),
        ):
            with pytest.raises(InvalidArgument, match=f"the connection is {isolation}"):
                correct()
        assert bound.reprice(WINDOW).examined == 0
    host.dispose()
    assert refunds(called) == []


def test_more_given_back_than_was_charged_is_found(called: Books) -> None:
    called.ledger.billing.refund(called.user, "a")
    tamper(
        called,
        "UPDATE ledger.token_usage_ledger SET credits_deducted = -10, charge_usd = -0.1,"
        " gross_margin_usd = -0.1 WHERE kind = 'refund'",
    )
    [found] = called.ledger.billing.reconcile(WINDOW).charges.differences.first
    assert (found.kind, found.what) == ("refunded", "credits_deducted")
    assert found.stored == -1


def test_who_sees_what_was_charged_gives_it_back(called: Books) -> None:
    with roles_of(called.url) as roles:
        with (
            Ledger.connect(roles.granted("writer").url) as ledger,
            pytest.raises(PermissionMissing),
        ):
            ledger.billing.refund(called.user, "a")
        with Ledger.connect(roles.granted("service").url) as ledger:
            assert ledger.billing.refund(called.user, "a").credits_deducted == -9


FORGED = """
INSERT INTO ledger.token_usage_ledger
SELECT (jsonb_populate_record(call, jsonb_build_object('id', forged.id, 'request_id', 'forged',
  'kind', 'refund', 'adjusts_id', call.id, 'adjusts_created_at', call.created_at, 'input_tokens',
  0, 'output_tokens', 0, 'cache_read_tokens', 0, 'pricing_status', 'stated', 'price_id', NULL)
  || '{}')).*
FROM ledger.token_usage_ledger call, LATERAL (SELECT overlay(gen_random_uuid()::text
  PLACING left(call.id::text, 18) FROM 1)::uuid AS id) forged WHERE request_id = 'a'
"""
EARNED = {"vendor_cost": 0, "credits_deducted": 5, "charge_usd": 0.05, "gross_margin_usd": 0.05}
CHEAP = {"vendor_cost": -9, "credits_deducted": 0, "charge_usd": 0, "gross_margin_usd": 9}
UNPRICED = {
    **dict.fromkeys(CHEAP),
    "kind": "adjustment",
    "pricing_status": "unpriced",
    "unpriced_reason": "unknown_model",
}


@pytest.mark.parametrize(
    "forged, rule",
    [(EARNED, "refund"), (CHEAP, "refund"), (UNPRICED, "corrected_amounts")],
    ids=["a charge", "a cost", "no amounts"],
)
def test_a_correction_that_is_none_is_refused(
    called: Books, forged: dict[str, Any], rule: str
) -> None:
    with pytest.raises(Exception, match=f"token_usage_ledger_{rule}_check"):
        sql(called.url, FORGED.replace("{}", json.dumps(forged)))


def test_an_adjustment_of_a_refunded_call_that_changes_its_charge_is_found(called: Books) -> None:
    called.ledger.billing.refund(called.user, "a")
    more = {**EARNED, "kind": "adjustment", "credits_deducted": 700, "charge_usd": 7}
    sql(called.url, FORGED.replace("{}", json.dumps({**more, "gross_margin_usd": 7})))
    [found] = called.ledger.billing.reconcile(WINDOW).charges.differences.first
    assert (found.kind, found.what) == ("adjusted", "credits_deducted")
    assert found.stored == 709
    assert found.expected == 9
