"""What becomes of records: stored once, exactly as sent, or refused with a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger.engine import async_engine
from ledger.errors import ConflictingRecord, InvalidArgument, InvalidRecord
from ledger.records.report import Rejected, WriteReport
from ledger.records.transaction import Transaction
from ledger.repositories.telemetry import AsyncTelemetry
from tests.builders import fields, transaction
from tests.writers import KINDS, Kind, Writer, count, sql, writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NOW = datetime.now(UTC)
FULL: dict[str, Any] = {
    "timestamp": NOW,
    "request_id": "käse-1",
    "response_model": "gpt-4o-2026-01-01",
    "operation": "chat",
    "category": "support",
    "time_to_first_token_ms": 20,
    "input_tokens": 1000,
    "output_tokens": 200,
    "reasoning_tokens": 50,
    "cache_read_tokens": 600,
    "cache_write_tokens": 400,
    "cost_usd": Decimal("0.001234567891"),
    "http_status_code": 429,
    "error_type": "rate_limit",
    "error_message": "slow down\n\t\\N",
    "is_streaming": True,
    "service_tier": "flex",
    "session_id": "s",
    "agent_id": "a",
    "project_id": uuid4(),
    "attributes": {"nested": {"list": [1, 2.5, None, True, "é \\u0000"]}},
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def writer(database_url: str, kind: Kind) -> Iterator[Writer]:
    with writing(database_url, kind) as writer:
        yield writer


def stored(url: str) -> list[Transaction]:
    """What is in the table, read as transactions."""
    names = ", ".join(f'"{name}"' for name in Transaction.model_fields)
    rows = sql(url, f"SELECT {names} FROM ledger.llm_requests ORDER BY user_id, id")
    return [Transaction(**dict(zip(Transaction.model_fields, row, strict=True))) for row in rows]


def in_key_order(records: list[Transaction]) -> list[Transaction]:
    return sorted(records, key=lambda record: (record.user_id, record.id))


# --- one transaction ---


@pytest.mark.parametrize("what_matters", [{}, FULL], ids=["least", "most"])
def test_one_transaction_is_stored_as_sent_under_the_id_it_gives(
    writer: Writer, database_url: str, what_matters: dict[str, Any]
) -> None:
    sent = transaction(**what_matters)
    assert writer.insert_transaction(sent) == sent.id
    assert stored(database_url) == [sent]


def test_a_mapping_is_as_good_as_a_transaction(writer: Writer, database_url: str) -> None:
    written = writer.insert_transaction(fields(**FULL))
    assert [record.id for record in stored(database_url)] == [written]
    assert written == transaction(**FULL).id


def test_the_same_transaction_again_is_a_success_that_changes_nothing(
    writer: Writer, database_url: str
) -> None:
    for sent in (transaction(), transaction(**FULL)):
        assert writer.insert_transaction(sent) == writer.insert_transaction(sent) == sent.id
    assert count(database_url) == 2


def test_other_content_under_the_same_request_id_is_a_conflict_that_names_what_differs(
    writer: Writer, database_url: str
) -> None:
    sent = transaction(**FULL)
    writer.insert_transaction(sent)
    with pytest.raises(ConflictingRecord) as error:
        writer.insert_transaction(fields(**{**FULL, "cost_usd": None, "attributes": {}}))
    assert error.value.differing == ("cost_usd", "attributes")
    assert str(error.value).startswith(
        f"request_id 'käse-1' of user {sent.user_id} is already recorded with other cost_usd,"
        " attributes;"
    )
    assert stored(database_url) == [sent]


def test_a_conflict_without_a_request_id_names_the_id(writer: Writer) -> None:
    sent = transaction()
    writer.insert_transaction(sent)
    with pytest.raises(ConflictingRecord, match=f"^id {sent.id} of user {sent.user_id} is"):
        writer.insert_transaction(sent.model_copy(update={"model": "another"}))


def test_json_that_is_equal_to_the_database_is_the_same_content(writer: Writer) -> None:
    for attributes in ({"a": 1, "b": 100}, {"b": 1e2, "a": 1.0}):
        writer.insert_transaction(fields(**{**FULL, "attributes": attributes}))
    with pytest.raises(ConflictingRecord):
        writer.insert_transaction(fields(**{**FULL, "attributes": {"a": True, "b": 100}}))


def test_an_invalid_mapping_is_refused_before_the_database_is_asked(
    writer: Writer, database_url: str
) -> None:
    with pytest.raises(InvalidRecord, match="latency_ms -1"):
        writer.insert_transaction(fields(latency_ms=-1))
    assert count(database_url) == 0


@pytest.mark.parametrize(
    "ago, reason",
    [
        (timedelta(days=91), "from which on raw rows are kept"),
        (timedelta(minutes=-6), "ahead of the database's clock"),
    ],
)
def test_a_time_that_is_not_accepted_is_refused_with_the_reason(
    writer: Writer, database_url: str, ago: timedelta, reason: str
) -> None:
    late = fields(timestamp=datetime.now(UTC) - ago)
    with pytest.raises(InvalidRecord, match=reason):
        writer.insert_transaction(late)
    report = writer.insert_transactions([late, fields(), transaction(**late)])
    assert (report.inserted, report.rejected_count) == (1, 2)
    assert [(one.index, one.error) for one in report.rejected] == [
        (0, "InvalidRecord"),
        (2, "InvalidRecord"),
    ]
    assert all(reason in one.reason for one in report.rejected)
    assert count(database_url) == 1


@pytest.mark.parametrize("ago", [timedelta(minutes=-4), timedelta(days=1), timedelta(days=89)])
def test_any_time_between_the_horizon_and_the_tolerance_is_accepted(
    writer: Writer, database_url: str, ago: timedelta
) -> None:
    then = datetime.now(UTC) - ago
    writer.insert_transaction(fields(timestamp=then))
    assert writer.insert_transactions([fields(timestamp=then)]).inserted == 1
    assert count(database_url) == 2


# --- many transactions ---


def test_many_transactions_are_stored_as_sent(writer: Writer, database_url: str) -> None:
    sent = [
        transaction(**{**FULL, "request_id": f"r-{number}", "user_id": uuid4()})
        for number in range(50)
    ]
    sent += [
        transaction(timestamp=NOW - timedelta(hours=7 * number), error_message="x" * number)
        for number in range(50)
    ]
    assert writer.insert_transactions(sent, batch_size=17) == WriteReport(inserted=100)
    assert stored(database_url) == in_key_order(sent)


def test_none_is_nothing(writer: Writer) -> None:
    assert writer.insert_transactions([]) == WriteReport()


def test_a_batch_has_at_least_one_record(writer: Writer) -> None:
    with pytest.raises(InvalidArgument, match="batch_size 0"):
        writer.insert_transactions([fields()], batch_size=0)


def test_sending_everything_again_changes_nothing(writer: Writer, database_url: str) -> None:
    sent = [transaction(timestamp=NOW - timedelta(minutes=number)) for number in range(100)]
    writer.insert_transactions(sent[::2])
    again = writer.insert_transactions(sent, batch_size=9)
    assert again == WriteReport(inserted=50, duplicates=50)
    assert writer.insert_transactions(sent) == WriteReport(duplicates=100)
    assert stored(database_url) == in_key_order(sent)


def test_good_records_are_written_whatever_the_others_are(
    writer: Writer, database_url: str
) -> None:
    known = transaction(**FULL)
    writer.insert_transaction(known)
    sent = [
        fields(),
        fields(latency_ms=-1),
        known,
        known.model_copy(update={"latency_ms": 9999}),
        None,
        fields(timestamp=NOW - timedelta(days=365)),
        transaction(),
    ]
    told: list[Rejected] = []
    report = writer.insert_transactions(sent, on_rejected=told.append)
    assert (report.inserted, report.duplicates, report.rejected_count) == (2, 1, 4)
    assert told == list(report.rejected)
    assert [(one.index, one.error) for one in told] == [
        (1, "InvalidRecord"),
        (3, "ConflictingRecord"),
        (4, "InvalidRecord"),
        (5, "InvalidRecord"),
    ]
    assert report.to_dict()["rejected"][0] == {
        "index": 1,
        "reason": "latency_ms -1: input should be greater than or equal to 0",
        "error": "InvalidRecord",
    }
    assert count(database_url) == 3


def test_a_record_that_only_the_database_refuses_does_not_take_its_batch_along(
    writer: Writer, database_url: str
) -> None:
    sent = [transaction() for _ in range(20)]
    wrong: dict[int, dict[str, Any]] = {3: {"latency_ms": -1}, 11: {"cost_usd": Decimal("NaN")}}
    bad = {
        number: Transaction.model_construct(**{**transaction().__dict__, **values})
        for number, values in wrong.items()
    }
    mixed = [bad.get(number, record) for number, record in enumerate(sent)]
    report = writer.insert_transactions(mixed)
    assert (report.inserted, [one.index for one in report.rejected]) == (18, [3, 11])
    assert "llm_requests_latency_check" in report.rejected[0].reason
    assert stored(database_url) == in_key_order(
        [record for number, record in enumerate(sent) if number not in bad]
    )
    with pytest.raises(InvalidRecord, match="llm_requests_latency_check"):
        writer.insert_transaction(bad[3])


def test_the_first_thousand_rejections_are_kept_and_all_are_told(writer: Writer) -> None:
    told: list[Rejected] = []
    sent: list[object] = [*([None] * 1500), fields()]
    report = writer.insert_transactions(sent, on_rejected=told.append, batch_size=400)
    assert (report.inserted, report.rejected_count, len(report.rejected)) == (1, 1500, 1000)
    assert [one.index for one in told] == list(range(1500))


def test_reports_add_up() -> None:
    one = WriteReport(
        inserted=1,
        duplicates=2,
        rejected=tuple(Rejected(index=n, reason="r", error="e") for n in range(700)),
        rejected_count=700,
    )
    both = one + one
    assert (both.inserted, both.duplicates, both.rejected_count) == (2, 4, 1400)
    assert len(both.rejected) == 1000


async def test_an_asynchronous_iterable_is_written_batch_by_batch(database_url: str) -> None:
    async def sent() -> AsyncIterator[dict[str, Any]]:
        for number in range(10):
            # What came before is committed: batches of four are.
            assert count(database_url) == number // 4 * 4
            yield fields()

    own = async_engine(database_url)
    report = await AsyncTelemetry(own).insert_transactions(sent(), batch_size=4)
    await own.dispose()
    assert report == WriteReport(inserted=10)
    assert count(database_url) == 10


def test_each_batch_is_committed_on_a_connection_of_our_own(
    writer: Writer, database_url: str
) -> None:
    def sent() -> Iterator[dict[str, Any]]:
        for number in range(10):
            assert count(database_url) == number // 4 * 4
            yield fields()

    assert writer.insert_transactions(sent(), batch_size=4).inserted == 10


# --- any mix equals what a dict would do ---

keys = st.integers(0, 4)
contents = st.integers(0, 2)
sendings = st.lists(
    st.tuples(
        st.sampled_from(["good", "good", "good", "bad", "old", "future"]),
        keys,
        contents,
        st.booleans(),
    ),
    max_size=25,
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)
@given(rounds=st.lists(st.tuples(sendings, st.integers(1, 8)), min_size=1, max_size=3))
def test_any_mix_ends_as_in_a_dict(
    writer: Writer,
    database_url: str,
    rounds: list[tuple[list[tuple[str, int, int, bool]], int]],
) -> None:
    user = uuid4()
    now = datetime.now(UTC)
    model: dict[int, int] = {}
    for sending, batch_size in rounds:
        sent: list[object] = []
        expected: dict[str, Any] = {"inserted": 0, "duplicates": 0, "rejected": []}
        for index, (what, key, content, is_built) in enumerate(sending):
            values = fields(
                user_id=user,
                request_id=f"key-{key}",
                timestamp=now - timedelta(days=key),
                attributes={"content": content},
            )
            wrong: dict[str, dict[str, Any]] = {
                "good": {},
                "bad": {"http_status_code": 7},
                "old": {"timestamp": now - timedelta(days=200)},
                "future": {"timestamp": now + timedelta(hours=1)},
            }
            values |= wrong[what]
            if what != "good":
                expected["rejected"].append((index, "InvalidRecord"))
            elif model.setdefault(key, content) != content:
                expected["rejected"].append((index, "ConflictingRecord"))
            else:
                expected["duplicates"] += 1
            sent.append(Transaction(**values) if is_built and what != "bad" else values)
        before = _known(database_url, user)
        report = writer.insert_transactions(sent, batch_size=batch_size)
        expected["inserted"] = len(model) - len(before)
        expected["duplicates"] -= expected["inserted"]
        assert {
            "inserted": report.inserted,
            "duplicates": report.duplicates,
            "rejected": [(one.index, one.error) for one in report.rejected],
        } == expected
        assert _known(database_url, user) == model


def _known(url: str, user: object) -> dict[int, int]:
    rows = sql(
        url,
        "SELECT right(request_id, 1)::int, (attributes ->> 'content')::int"
        f" FROM ledger.llm_requests WHERE user_id = '{user}'",
    )
    return dict(rows)
