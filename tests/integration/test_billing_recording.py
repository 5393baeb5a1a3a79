"""Each call is booked exactly once, at a price that can be named, or refused with a reason."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from ledger import Ledger
from ledger.engine import engine
from ledger.errors import (
    AppendOnlyViolation,
    ConflictingRecord,
    InvalidRecord,
    PermissionMissing,
    UnknownReference,
)
from ledger.records.report import WriteReport
from ledger.records.usage import Charging, Usage
from tests.ledgers import NOW, PRICE, Books, at_once, books_at
from tests.roles import roles_of
from tests.writers import sql, superuser

COST, CHARGE, FREE = Decimal("0.00325"), Decimal("0.01"), Decimal(0)


def stored(books: Books, columns: str = "request_id") -> list[tuple[Any, ...]]:
    return sql(books.url, f"SELECT {columns} FROM ledger.token_usage_ledger ORDER BY request_id")


# --- one call ---


def test_a_call_is_booked_at_the_price_that_held_and_says_which(books: Books) -> None:
    booked = books.ledger.billing.record_usage(books.usage())

    assert (booked.pricing_status, booked.is_duplicate) == ("priced", False)
    assert (booked.vendor_cost, booked.charge_usd, booked.credits_deducted) == (COST, CHARGE, 1)
    assert booked.gross_margin_usd == CHARGE - COST
    named = sql(
        books.url,
        "SELECT p.source, u.margin_multiplier, u.credit_value_usd, u.tier"
        " FROM ledger.token_usage_ledger u JOIN ledger.model_prices p ON p.id = u.price_id",
    )
    assert named == [(PRICE.source, Decimal("1.5"), Decimal("0.01"), "pro")]


def test_its_id_is_that_of_the_same_call_in_the_telemetry_ledger(books: Books) -> None:
    usage = books.usage()
    telemetry = books.ledger.telemetry.insert_transaction(
        {
            "user_id": usage.user_id,
            "request_id": usage.request_id,
            "timestamp": usage.created_at,
            "provider": usage.provider,
            "model": usage.model,
            "latency_ms": 1,
        }
    )
    assert books.ledger.billing.record_usage(usage).id == telemetry == usage.id


def test_the_same_call_again_is_a_success_that_books_nothing(books: Books) -> None:
    first = books.ledger.billing.record_usage(books.usage(attributes={"a": [1, None, "é"]}))
    again = books.ledger.billing.record_usage(books.fields(attributes={"a": [1, None, "é"]}))

    assert again.is_duplicate
    assert {**again.to_dict(), "is_duplicate": False} == first.to_dict()
    assert stored(books) == [("r",)]


@pytest.mark.parametrize(
    "changed, differing",
    [
        ({"input_tokens": 2_000, "status": "failed"}, ("status", "input_tokens")),
        ({"model": "gpt-4o-mini"}, ("model_id",)),
        ({"created_at": NOW}, ("created_at",)),
        ({"attributes": {"a": 1}}, ("attributes",)),
        ({"tier": "free"}, ("tier",)),
        ({"vendor_cost": COST}, ("vendor_cost",)),
    ],
    ids=",".join,
)
def test_other_content_under_the_same_request_id_is_a_conflict_that_names_what_differs(
    called: Books, changed: dict[str, Any], differing: tuple[str, ...]
) -> None:
    called.ledger.billing.record_usage(called.usage())
    with pytest.raises(ConflictingRecord) as error:
        called.ledger.billing.record_usage(called.usage(**changed))
    assert error.value.differing == differing
    assert str(error.value).startswith(f"request_id 'r' of user {called.user} is already")


def test_two_users_may_have_the_same_request_id(called: Books) -> None:
    other = called.ledger.tenancy.upsert_user(tier="pro", external_id="other")
    called.ledger.billing.record_usage(called.usage())
    called.ledger.billing.record_usage(called.usage(user_id=other))
    assert stored(called) == [("r",), ("r",)]


def test_a_price_that_came_since_makes_no_conflict_of_a_retry(called: Books) -> None:
    late = called.usage(model="gpt-5")
    assert called.ledger.billing.record_usage(late).pricing_status == "unpriced"
    called.ledger.billing.add_prices([_price(model="gpt-5")])

    again = called.ledger.billing.record_usage(late)
    assert (again.is_duplicate, again.pricing_status) == (True, "unpriced")


@pytest.mark.parametrize(
    "unknown, reason",
    [
        ({"model": "gpt-9"}, "unknown_model"),
        ({"service_tier": "flex"}, "unknown_service_tier"),
        ({"created_at": PRICE.effective_from - timedelta(days=1)}, "not_yet_effective"),
        ({"tier": "nobody's"}, "unknown_tier"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_price_is_unpriced_with_the_reason_and_never_free(
    called: Books, unknown: dict[str, Any], reason: str
) -> None:
    booked = called.ledger.billing.record_usage(called.usage(**unknown))
    assert (booked.pricing_status, booked.unpriced_reason) == ("unpriced", reason)
    assert (booked.vendor_cost, booked.charge_usd, booked.gross_margin_usd) == (None, None, None)
    assert booked.credits_deducted is None


def test_a_call_that_failed_costs_and_is_not_charged(called: Books) -> None:
    booked = called.ledger.billing.record_usage(called.usage(status="failed"))
    assert (booked.vendor_cost, booked.charge_usd, booked.gross_margin_usd) == (COST, FREE, -COST)


def test_a_setting_charges_calls_that_failed(database_url: str) -> None:
    charging = Charging(credit_value_usd=Decimal("0.001"), charges_failures=True)
    with books_at(database_url, charging=charging) as books:
        booked = books.ledger.billing.record_usage(books.usage(status="cancelled"))
    # 0.00325 x 1.5 = 0.004875
    assert (booked.credits_deducted, booked.charge_usd) == (5, Decimal("0.005"))


def test_a_cost_that_the_caller_knows_is_booked_as_stated(books: Books) -> None:
    booked = books.ledger.billing.record_usage(
        books.usage(model="of their own", vendor_cost="0.0123456789015")
    )
    assert (booked.pricing_status, booked.vendor_cost) == ("stated", Decimal("0.012345678902"))
    assert booked.credits_deducted == 2


def test_a_tier_is_charged_what_it_was_at_the_time_of_the_call(called: Books) -> None:
    called.ledger.tenancy.set_tier("pro", 40, effective_from=NOW - timedelta(minutes=30))
    before = called.ledger.billing.record_usage(
        called.usage("before", created_at=NOW - timedelta(hours=1))
    )
    after = called.ledger.billing.record_usage(called.usage("after"))
    assert (before.margin_multiplier, after.margin_multiplier) == (Decimal("1.5"), Decimal(40))
    assert (before.credits_deducted, after.credits_deducted) == (1, 13)


@pytest.mark.parametrize(
    "unknown, words",
    [
        ({"user_id": UUID(int=7)}, f"user_id {UUID(int=7)}: the ledger does not know it"),
        ({"provider": "openia"}, "provider 'openia': the ledger does not know it"),
        ({"project_id": UUID(int=8)}, f"project_id {UUID(int=8)}: the ledger does not know it"),
    ],
    ids=["user", "provider", "project"],
)
def test_a_name_that_nobody_introduced_is_refused_with_what_to_call(
    books: Books, unknown: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnknownReference, match=words) as error:
        books.ledger.billing.record_usage(books.usage(**unknown))
    assert "call ledger.tenancy.upsert_" in str(error.value)
    assert stored(books) == []


def test_a_call_of_tomorrow_is_refused(books: Books) -> None:
    with pytest.raises(InvalidRecord, match=r"created_at .* ahead of the database's clock"):
        books.ledger.billing.record_usage(books.usage(created_at=NOW + timedelta(days=1)))


# --- many calls ---


def test_what_can_be_booked_of_a_batch_is_and_the_rest_has_its_reason(books: Books) -> None:
    report = books.ledger.billing.record_usages(
        [
            books.usage("a"),
            {"user_id": "nonsense"},
            books.usage("b", provider="nobody"),
            books.fields("c"),
            books.usage("a"),
            books.usage("a", input_tokens=5_000),
            books.usage("d", created_at=NOW + timedelta(days=1)),
            books.usage("e", vendor_cost=9 * Decimal(10) ** 11),
        ],
        batch_size=3,
    )
    assert (report.inserted, report.duplicates) == (2, 1)
    assert [(each.index, each.error) for each in report.rejected] == [
        (1, "InvalidRecord"),
        (2, "UnknownReference"),
        (5, "ConflictingRecord"),
        (6, "InvalidRecord"),
        (7, "InvalidRecord"),
    ]
    assert stored(books) == [("a",), ("c",)]


def test_a_record_that_only_the_database_refuses_is_found_and_the_others_go_in(
    called: Books,
) -> None:
    sql(
        called.url,
        "ALTER TABLE ledger.token_usage_ledger ADD CONSTRAINT ours CHECK (request_id <> 'r7')",
    )
    report = called.ledger.billing.record_usages(called.usage(f"r{n}") for n in range(10))
    assert report.inserted == 9
    assert [(each.index, each.error) for each in report.rejected] == [(7, "InvalidRecord")]


def test_nothing_is_booked_twice_by_writers_of_the_same_calls_in_opposite_order(
    called: Books,
) -> None:
    calls = [called.usage(f"r{n}") for n in range(400)]
    reports: list[WriteReport] = []

    def write(records: list[Usage]) -> None:
        with Ledger.connect(called.url) as ledger:
            reports.append(ledger.billing.record_usages(records, batch_size=100))

    at_once(*(lambda: write(calls), lambda: write(calls[::-1])) * 2)

    assert sum(report.inserted for report in reports) == len(calls) == len(stored(called))
    assert all(report.rejected_count == 0 for report in reports)


def test_a_bound_ledger_books_in_its_callers_transaction(called: Books) -> None:
    own = engine(called.url)
    try:
        with own.connect() as connection:
            bound = Ledger.bound(connection)
            bound.billing.record_usage(called.usage())
            with pytest.raises(ConflictingRecord):
                bound.billing.record_usage(called.usage(input_tokens=999))
            bound.billing.record_usages([called.usage("s")])
            connection.rollback()
        assert stored(called) == []
    finally:
        own.dispose()


# --- who may do what ---


@pytest.mark.parametrize(
    "done",
    [
        "UPDATE ledger.token_usage_ledger SET vendor_cost = 0",
        "UPDATE ledger.token_usage_ledger SET vendor_cost = 0 WHERE false",
        "DELETE FROM ledger.token_usage_ledger",
        "TRUNCATE ledger.token_usage_ledger CASCADE",
        "DELETE FROM ledger.model_prices",
        "UPDATE ledger.tiers SET margin_multiplier = 0",
        (
            "INSERT INTO ledger.tiers (id, name, effective_from, margin_multiplier)"
            " SELECT id, name, now(), 9 FROM ledger.tiers"
            " ON CONFLICT (id) DO UPDATE SET margin_multiplier = 9"
        ),
        "MERGE INTO ledger.tiers t USING (VALUES (1)) AS s(x) ON true WHEN MATCHED THEN DELETE",
    ],
)
@pytest.mark.parametrize("replication_role", ["origin", "replica"])
def test_what_is_booked_is_never_changed_whoever_asks(
    called: Books, done: str, replication_role: str
) -> None:
    called.ledger.billing.record_usage(called.usage())
    with superuser(called.url) as owner:
        owner.execute(f"SET session_replication_role = {replication_role}".encode())
        with pytest.raises(Exception, match="its rows are added and never changed") as error:
            owner.execute(done.encode())
    assert getattr(error.value, "sqlstate", None) == "LG006"
    assert len(stored(called)) == 1


@pytest.mark.parametrize("parent", ["projects", "providers", "users"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET id = gen_random_uuid()"])
def test_whom_a_bill_names_stays_also_where_no_key_is_enforced(
    books: Books, parent: str, change: str
) -> None:
    project = books.ledger.tenancy.upsert_project("website", external_id="website")
    books.ledger.billing.record_usage(books.usage(project_id=project))
    with superuser(books.url) as owner:
        owner.execute("SET session_replication_role = replica")
        with pytest.raises(Exception, match=r"rows of ledger.* refer to it") as error:
            owner.execute(change.format(f"ledger.{parent}").encode())
    assert getattr(error.value, "sqlstate", None) == "LG006"


def test_a_change_through_sqlalchemy_is_an_error_of_ours(called: Books) -> None:
    from ledger.engine import translated_errors  # noqa: PLC0415

    own = engine(called.url)
    try:
        with pytest.raises(AppendOnlyViolation), translated_errors(), own.begin() as connection:
            connection.exec_driver_sql("DELETE FROM ledger.tiers")
    finally:
        own.dispose()


def test_each_kind_of_role_does_what_it_may(called: Books) -> None:
    other = called.ledger.tenancy.upsert_user(tier="pro", external_id="other")
    called.ledger.billing.record_usages(
        [called.usage("a"), called.usage("b", user_id=other), called.usage("c", user_id=other)]
    )
    count, through = "SELECT count(*) FROM ledger.{}", ("token_usage_ledger", "visible_usage")
    with roles_of(called.url) as roles:
        service, auditor = roles.granted("service"), roles.granted("auditor")
        reader = roles.granted("reader", [called.user])
        writer, nobody = roles.granted("writer"), roles.create()
        for role in (service, auditor):
            assert [role.sql(count.format(name)) for name in through] == [[(3,)], [(3,)]]
            seen = role.sql(count.format("visible_usage"), ledger__user_id=str(called.user))
            assert seen == [(1,)]
        assert reader.sql(count.format("visible_usage")) == [(1,)]
        assert reader.sql(count.format("visible_usage"), ledger__user_id=str(other)) == [(0,)]
        for role, relation in [(reader, "token_usage_ledger"), (nobody, "visible_usage")]:
            with pytest.raises(Exception, match="permission denied"):
                role.sql(count.format(relation))

        # What somebody grants by hand shows a role no more than its scope.
        roles.own(f"GRANT SELECT ON ledger.token_usage_ledger TO {reader.name}")
        assert reader.sql(count.format("token_usage_ledger")) == [(1,)]

        for role in (service, writer):
            with Ledger.connect(role.url) as ledger:
                for _ in range(2):
                    ledger.billing.record_usages([called.usage(f"of {role.name}")])
                with pytest.raises(ConflictingRecord):
                    ledger.billing.record_usage(called.usage("a", input_tokens=5_000))
        for role in (auditor, reader):
            with Ledger.connect(role.url) as ledger, pytest.raises(PermissionMissing):
                ledger.billing.record_usage(called.usage("z"))
        with Ledger.connect(service.url) as ledger:
            ledger.tenancy.upsert_project("a project", id=uuid4())
        with Ledger.connect(writer.url) as ledger, pytest.raises(PermissionMissing):
            ledger.tenancy.upsert_project("a project", id=uuid4())


def _price(**changed: Any) -> Any:
    values = {name: getattr(PRICE, name) for name in PRICE.__dataclass_fields__}
    return type(PRICE)(**{**values, **changed})
