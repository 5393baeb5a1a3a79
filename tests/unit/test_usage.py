"""A usage is valid, or says in a sentence what is wrong with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from ledger import Charging, InvalidArgument, InvalidRecord, Transaction, Usage

USER = UUID(int=5)
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def usage(**what_matters: Any) -> Usage:
    return Usage(
        **{
            "user_id": USER,
            "request_id": "r",
            "created_at": AT,
            "provider": "openai",
            "model": "gpt-5",
            **what_matters,
        }
    )


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"vendor_cost": float("nan")}, "vendor_cost nan"),
        ({"vendor_cost": "Infinity"}, "vendor_cost 'Infinity'"),
        ({"vendor_cost": "-0.01"}, "vendor_cost '-0.01'"),
        ({"vendor_cost": Decimal(10) ** 12}, "more than 12 digits before the decimal point"),
        ({"input_tokens": 2**63}, f"input_tokens {2**63}"),
        ({"output_tokens": -1}, "output_tokens -1"),
        (
            {"input_tokens": 5, "cache_read_tokens": 3, "cache_write_tokens": 3},
            "cache_read_tokens + cache_write_tokens 6: more than input_tokens, 5",
        ),
        ({"reasoning_tokens": 1}, "reasoning_tokens 1: more than output_tokens, 0"),
        ({"created_at": datetime(2026, 1, 1)}, "has no time zone"),  # noqa: DTZ001 - naive is meant
        ({"created_at": datetime(1969, 1, 1, tzinfo=UTC)}, "outside the years 1970 to 9999"),
        ({"request_id": ""}, "request_id ''"),
        ({"request_id": "a\0b"}, "holds a NUL character"),
        ({"request_id": "x" * 256}, "request_id 'xxx"),
        ({"status": "done"}, "status 'done'"),
        ({"usage_source": "guessed"}, "usage_source 'guessed'"),
        ({"user_id": "me"}, "user_id 'me'"),
        ({"attributes": {"a": "\0"}}, "holds a NUL character"),
        ({"prompt": "hi"}, "prompt 'hi': is not a field of such a record"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRecord) as error:
        usage(**wrong)
    assert words in str(error.value)


@pytest.mark.parametrize("missing", ["user_id", "request_id", "created_at", "provider", "model"])
def test_what_is_missing_is_named(missing: str) -> None:
    fields = usage().model_dump()
    del fields[missing]
    with pytest.raises(InvalidRecord, match=f"{missing} is missing"):
        Usage(**fields)


def test_the_time_is_kept_in_utc_to_the_millisecond() -> None:
    berlin = timezone(timedelta(hours=1))
    made = usage(created_at=AT.astimezone(berlin).replace(microsecond=123_999))
    assert made.created_at == AT.replace(microsecond=123_000)
    assert made.created_at.tzinfo is UTC


def test_its_id_is_that_of_the_same_transaction() -> None:
    call = Transaction(
        user_id=USER, request_id="r", timestamp=AT, provider="openai", model="gpt-5", latency_ms=1
    )
    assert usage().id == call.id


def test_a_usage_is_read_back_from_its_fields() -> None:
    made = usage(vendor_cost="0.1", attributes={"a": [1]}, project_id=UUID(int=2), latency_ms=3)
    assert Usage.of(made.model_dump()) == made
    assert Usage.of(made) is made
    odd: dict[Any, Any] = {**made.model_dump(), 1: "hi"}
    with pytest.raises(InvalidRecord, match="field 1: is not a name"):
        Usage.of(odd)


def test_a_stated_cost_is_rounded_half_even_to_12_decimals() -> None:
    assert usage(vendor_cost="0.0000000000005").vendor_cost == Decimal(0)
    assert usage(vendor_cost="0.0000000000015").vendor_cost == Decimal("0.000000000002")
    assert usage(vendor_cost=0.1).vendor_cost == Decimal("0.1")


@pytest.mark.parametrize(
    "worth", [0, Decimal(0), Decimal(-1), Decimal("NaN"), Decimal("1E-13"), 0.01]
)
def test_a_credit_is_worth_something(worth: Any) -> None:
    with pytest.raises(InvalidArgument, match="credit_value_usd"):
        Charging(credit_value_usd=worth)
