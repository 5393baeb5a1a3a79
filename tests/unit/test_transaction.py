from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from hashlib import sha256
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ledger.errors import InvalidRecord
from ledger.models.telemetry import LLMRequest
from ledger.records.transaction import Transaction
from tests.builders import USER, fields, transaction

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
NAMES = (
    "request_id",
    "provider",
    "model",
    "response_model",
    "operation",
    "category",
    "error_type",
    "service_tier",
    "session_id",
    "agent_id",
)
COUNTS = (
    "latency_ms",
    "time_to_first_token_ms",
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
)

moments = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
)


def milliseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def refused(**what_matters: Any) -> str:
    """What is said about such a transaction, which must be refused."""
    with pytest.raises(InvalidRecord) as error:
        transaction(**what_matters)
    return str(error.value)


def test_it_has_the_columns_of_the_table() -> None:
    assert list(Transaction.model_fields) == [
        column.name for column in LLMRequest.metadata.tables["ledger.llm_requests"].columns
    ]


def test_what_is_not_said_is_zero_or_unknown() -> None:
    made = transaction()
    assert made.cost_usd is None
    assert made.is_streaming is False
    assert made.attributes == {}
    assert made.input_tokens == made.output_tokens == made.reasoning_tokens == 0
    assert made.cache_read_tokens == made.cache_write_tokens == 0
    assert (made.http_status_code, made.error_type, made.project_id) == (None, None, None)


def test_it_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        transaction().latency_ms = 1  # type: ignore[misc]


# --- time ---


@given(moments)
def test_the_timestamp_is_utc_and_cut_to_the_millisecond(moment: datetime) -> None:
    kept = transaction(timestamp=moment).timestamp
    assert kept.tzinfo is UTC
    assert timedelta(0) <= moment - kept < timedelta(milliseconds=1)
    assert kept.microsecond % 1000 == 0


def test_the_timestamp_defaults_to_now_without_a_request_id() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    assert before <= transaction().timestamp <= datetime.now(UTC)


def test_with_a_request_id_the_timestamp_is_mandatory() -> None:
    assert refused(request_id="r-1") == (
        "request_id 'r-1': needs a timestamp, the other half of the record's identity; send the"
        " time at which the call was made"
    )


def test_a_naive_timestamp_is_refused_by_name_and_value() -> None:
    said = refused(timestamp=datetime(2026, 3, 1))  # noqa: DTZ001 - that is the test
    assert said.startswith("timestamp datetime.datetime(2026, 3, 1, 0, 0): has no time zone")


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
    ],
)
def test_a_time_that_neither_side_can_hold_is_refused(moment: datetime) -> None:
    assert "outside the years 1970 to 9999" in refused(timestamp=moment)


# --- identity ---


@given(moments)
def test_the_id_is_a_uuid7_of_exactly_the_rows_time(moment: datetime) -> None:
    for made in (transaction(timestamp=moment), transaction(timestamp=moment, request_id="a")):
        assert made.id.version == 7
        assert made.id.variant == "specified in RFC 4122"
        assert made.id.int >> 80 == milliseconds(made.timestamp)


def test_a_request_id_gives_the_same_id_every_time_and_everywhere() -> None:
    made = transaction(timestamp=NOON, request_id="käse")
    noise = int.from_bytes(sha256(USER.bytes + "käse".encode()).digest()[:10], "big")
    assert made.id == transaction(timestamp=NOON, request_id="käse", latency_ms=1).id
    assert made.id.int & ((1 << 62) - 1) == noise & ((1 << 62) - 1)
    assert str(made.id) == "019ca945-0a7b-72ab-b90a-097062494f8e"


@pytest.mark.parametrize(
    "other",
    [
        {"user_id": uuid4()},
        {"request_id": "another"},
        {"timestamp": NOON + timedelta(milliseconds=1)},
    ],
)
def test_another_user_key_or_time_is_another_record(other: dict[str, Any]) -> None:
    same = {"timestamp": NOON, "request_id": "r"}
    assert transaction(**{**same, **other}).id != transaction(**same).id


def test_without_a_request_id_each_object_is_another_record() -> None:
    assert len({transaction(timestamp=NOON).id for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        lambda made: made.model_copy(),
        lambda made: pickle.loads(pickle.dumps(made)),
        lambda made: Transaction(**made.model_dump()),
        lambda made: Transaction(**made.model_dump(exclude_unset=True)),
        lambda made: Transaction(**json.loads(made.model_dump_json())),
    ],
)
@pytest.mark.parametrize("key", [None, "r-1"])
def test_a_copy_is_the_same_record(again: Any, key: str | None) -> None:
    made = transaction(timestamp=NOON, request_id=key, attributes={"a": [1, None]}, cost_usd=1)
    copied = again(made)
    assert copied == made
    assert hash(copied) == hash(made)
    assert copied.attributes_jsonb == made.attributes_jsonb
    assert copied.postgres_microseconds == made.postgres_microseconds


def test_a_copy_with_changes_is_validated_and_keeps_its_id_while_its_key_is_the_same() -> None:
    made = transaction(timestamp=NOON)
    assert made.model_copy(update={"latency_ms": 9}).id == made.id
    assert made.model_copy(update={"latency_ms": 9}).latency_ms == 9
    moved = made.model_copy(update={"timestamp": NOON + timedelta(hours=1)})
    assert moved.id.int >> 80 == milliseconds(moved.timestamp)
    with pytest.raises(InvalidRecord):
        made.model_copy(update={"latency_ms": -9})


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": uuid4()},
        {"id": uuid4(), "timestamp": NOON},
        {"id": transaction().id, "timestamp": NOON},
        {"id": transaction(timestamp=NOON).id, "timestamp": NOON, "request_id": "r"},
    ],
)
def test_an_id_that_is_not_the_records_own_is_refused(wrong: dict[str, Any]) -> None:
    assert refused(**wrong).startswith(f"id '{wrong['id']}': ")


# --- rules ---


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", [-1, 2**31, pytest.param(10**5000, id="huge"), 1.5, "many"])
def test_a_number_that_is_no_count_or_too_big_for_its_column_is_refused(
    field: str, value: Any
) -> None:
    assert refused(**{field: value}).startswith(f"{field} ")


@pytest.mark.parametrize("field", COUNTS)
def test_the_greatest_integer_is_accepted(field: str) -> None:
    greatest = 2**31 - 1
    wholes = {"latency_ms": greatest, "input_tokens": greatest, "output_tokens": greatest}
    assert getattr(transaction(**{**wholes, field: greatest}), field) == greatest


@pytest.mark.parametrize("status", [99, 600, 0, -200])
def test_a_status_is_one_of_http(status: int) -> None:
    assert refused(http_status_code=status).startswith(f"http_status_code {status}: ")


@given(whole=st.integers(0, 50), read=st.integers(0, 50), write=st.integers(0, 50))
def test_cached_tokens_are_part_of_input_tokens(whole: int, read: int, write: int) -> None:
    parts = {"input_tokens": whole, "cache_read_tokens": read, "cache_write_tokens": write}
    if read + write <= whole:
        assert transaction(**parts).cache_read_tokens == read
    else:
        assert refused(**parts) == (
            f"cache_read_tokens + cache_write_tokens {read + write}: more than input_tokens,"
            f" {whole}, which include them"
        )


def test_reasoning_tokens_are_part_of_output_tokens() -> None:
    assert transaction(output_tokens=5, reasoning_tokens=5).reasoning_tokens == 5
    assert refused(output_tokens=5, reasoning_tokens=6) == (
        "reasoning_tokens 6: more than output_tokens, 5, which include them"
    )


def test_the_first_token_does_not_come_after_the_last() -> None:
    assert transaction(latency_ms=5, time_to_first_token_ms=5).time_to_first_token_ms == 5
    assert refused(latency_ms=5, time_to_first_token_ms=6) == (
        "time_to_first_token_ms 6: longer than latency_ms, 5"
    )


@pytest.mark.parametrize("field", NAMES)
@pytest.mark.parametrize("value", ["", "x" * 256, "nul\0", "half \ud800 pair", 5])
def test_a_name_has_1_to_255_characters_of_unicode(field: str, value: Any) -> None:
    assert refused(timestamp=NOON, **{field: value}).startswith(f"{field} ")


@pytest.mark.parametrize("field", NAMES)
def test_a_name_of_255_characters_is_accepted(field: str) -> None:
    assert getattr(transaction(timestamp=NOON, **{field: "語" * 255}), field) == "語" * 255


def test_an_error_message_of_more_than_ten_thousand_characters_is_refused() -> None:
    assert transaction(error_message="x" * 10_000).error_message == "x" * 10_000
    assert "at most 10000 characters" in refused(error_message="x" * 10_001)
    assert refused(error_message="\0").endswith(
        "holds a NUL character, which PostgreSQL cannot store"
    )


def test_an_unknown_field_and_a_missing_one_are_named() -> None:
    assert refused(prompt="hi").startswith("prompt 'hi': is not a field of such a record")
    with pytest.raises(InvalidRecord, match="user_id is missing"):
        Transaction()  # type: ignore[call-arg]


# --- money ---


@pytest.mark.parametrize(
    "cost, kept",
    [
        (0, Decimal(0)),
        (3, Decimal(3)),
        ("0.1", Decimal("0.1")),
        (0.1, Decimal("0.1")),
        (1e-7, Decimal("0.0000001")),
        (Decimal("999999999999.999999999999"), Decimal("999999999999.999999999999")),
        (Decimal("0.0000000000005"), Decimal(0)),
        (Decimal("0.0000000000015"), Decimal("0.000000000002")),
        (Decimal("1E-999999"), Decimal(0)),
    ],
)
def test_cost_is_exact_to_twelve_decimals_and_rounded_half_even(cost: Any, kept: Decimal) -> None:
    assert transaction(cost_usd=cost).cost_usd == kept


def test_rounding_does_not_depend_on_the_hosts_decimal_context() -> None:
    with localcontext() as context:
        context.prec = 3
        made = transaction(cost_usd="123456.7890123456785")
    assert made.cost_usd == Decimal("123456.789012345678")


@pytest.mark.parametrize(
    "cost",
    [
        -1,
        "-0.000000000001",
        "NaN",
        Decimal("sNaN"),
        float("inf"),
        "-Infinity",
        True,
        "free",
        10**12,
        "999999999999.9999999999995",
        "1E+999999",
        "1" * 200,
    ],
)
def test_a_cost_that_is_not_money_is_refused(cost: Any) -> None:
    assert refused(cost_usd=cost).startswith("cost_usd ")


# --- attributes ---


def test_attributes_are_kept_as_json() -> None:
    given = {"text": "ü \\u0000", "list": [1, 2.5, None, True], "nested": {"a": {}}}
    made = transaction(attributes=given)
    assert json.loads(made.attributes_json) == made.attributes == given


def test_attributes_changed_after_the_object_was_made_are_not_written() -> None:
    attributes: dict[str, Any] = {"a": [1]}
    made = transaction(attributes=attributes)
    attributes["a"].append(2)
    made.attributes["b"] = 1
    assert json.loads(made.attributes_json) == {"a": [1]}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "attributes",
    [
        {"a": float("nan")},
        {"a": [float("inf")]},
        {"a": "nul\0"},
        {"nul\0": 1},
        {"a": [{"b": "nul\0"}]},
        {"a": "half \ud800 pair"},
        {"half \ud800 pair": 1},
        {1: 2},
        {"a": {1: 2}},
        {"a": (1,)},
        {"a": Decimal(1)},
        {"a": b"bytes"},
        {"a": "x" * 65_536},
        {"a": 10**5000},
        nested(5000),
        [],
        "text",
        None,
    ],
)
def test_attributes_that_are_not_json_of_64_kib_are_refused(attributes: Any) -> None:
    assert refused(attributes=attributes).startswith("attributes")


def test_attributes_of_exactly_64_kib_are_accepted() -> None:
    assert len(transaction(attributes={"a": "x" * (65_536 - 8)}).attributes_json) == 65_536


# --- errors ---


def test_a_value_is_shown_in_at_most_100_characters() -> None:
    for value in ("x" * 1000, list(range(1000)), 10**5000, nested(50)):
        said = refused(model=value)
        assert len(said) < 250


def test_several_broken_rules_are_told_at_once() -> None:
    said = refused(latency_ms=-1, provider="", http_status_code=7)
    assert [part.split()[0] for part in said.split("; ")] == [
        "provider",
        "latency_ms",
        "http_status_code",
    ]
    assert refused(**dict.fromkeys(COUNTS, -1)).endswith("and 2 more")


def test_frameworks_get_the_validation_error_that_they_expect() -> None:
    assert Transaction.model_validate(fields(timestamp=NOON, request_id="r")).request_id == "r"
    with pytest.raises(ValidationError):
        Transaction.model_validate(fields(latency_ms=-1))


@pytest.mark.parametrize("record", [5, None, "text", [("a", 1)]])
def test_a_record_that_is_no_mapping_is_refused(record: object) -> None:
    with pytest.raises(InvalidRecord, match="neither an object of ours nor a mapping"):
        Transaction.of(record)


def test_a_key_that_is_no_text_is_refused() -> None:
    mixed: dict[Any, Any] = {**fields(), 1: 2}
    with pytest.raises(InvalidRecord, match="keys should be strings"):
        Transaction.of(mixed)


def test_any_mapping_will_do() -> None:
    assert Transaction.of(MappingProxyType(fields(latency_ms=7))).latency_ms == 7


def test_an_id_names_its_time_to_the_database_too() -> None:
    made = transaction(timestamp=NOON)
    assert made.postgres_microseconds == (
        (made.timestamp - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    )
    assert isinstance(made.id, UUID)
