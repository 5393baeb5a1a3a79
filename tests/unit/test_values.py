"""A mapping that is written in bulk is judged as the object would be, though none is made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidRecord
from ledger.records.transaction import Transaction
from ledger.write.rows import COLUMNS, row_of
from tests.builders import fields, transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.write.rows import Row

NOON: Final = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
ID: Final = COLUMNS.index("id")

anything: st.SearchStrategy[object] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        7,
        404,
        2**31,
        1_772_366_400,
        1.5,
        0.1,
        float("nan"),
        float("inf"),
        Decimal("0.0000000000015"),
        Decimal("NaN"),
        Decimal(10**12),
        "",
        "gpt-4o",
        "x" * 256,
        "x" * 10_001,
        "nul\0",
        "half \ud800 pair",
        "12",
        "0.25",
        "2026-03-01T12:00:00Z",
        str(uuid4()),
        b"gpt-4o",
        uuid4(),
        transaction(timestamp=NOON).id,
        transaction(timestamp=NOON, request_id="r").id,
        NOON,
        NOON.replace(tzinfo=None),
        NOON - timedelta(days=365 * 90),
        [],
        {},
        {"a": [1, None, {"b": 2.5}]},
        {"a": float("nan")},
        {"a": "nul\0"},
        {1: 2},
    ]
)
names = st.sampled_from([*Transaction.model_fields, "prompt"])
records = st.dictionaries(names, anything, max_size=4).map(
    lambda what_matters: {**fields(timestamp=NOON, request_id="r"), **what_matters}
)


def outcome(row_of: Callable[[dict[str, Any]], Row], record: dict[str, Any]) -> object:
    """The row, without the id that was drawn for it, or the reason why there is none."""
    try:
        row = row_of(record)
    except InvalidRecord as error:
        return str(error)
    is_drawn = record["request_id"] is None and record.get("id") is None
    return (*row[:ID], row[ID][:6], *row[ID + 1 :]) if is_drawn else row


@given(records)
def test_a_mapping_gives_the_row_of_its_object_or_is_refused_for_the_same_reason(
    record: dict[str, Any],
) -> None:
    of_object = outcome(lambda values: row_of(Transaction(**values)), record)
    assert outcome(row_of, record) == of_object


def test_what_is_not_said_is_as_in_the_object() -> None:
    least = fields(timestamp=NOON, id=transaction(timestamp=NOON).id)
    assert row_of(least) == row_of(Transaction(**least))


def test_any_mapping_will_do_and_nothing_else() -> None:
    record = fields(timestamp=NOON, request_id="r")
    assert row_of(MappingProxyType(record)) == row_of(record)
    with pytest.raises(InvalidRecord, match="neither an object of ours nor a mapping"):
        row_of([("a", 1)])


def test_the_time_and_the_id_are_drawn_for_each_record() -> None:
    before = row_of(transaction())
    rows = [row_of(fields()) for _ in range(100)]
    assert len({row[ID] for row in rows}) == 100
    assert all(row[ID][:6] >= before[ID][:6] for row in rows)


def test_the_callers_mapping_is_left_as_it_was() -> None:
    record = fields(timestamp=NOON, cost_usd=0.1, attributes={"a": [1]})
    copied = {**record, "attributes": {"a": [1]}}
    row_of(record)
    assert record == copied


def test_an_object_that_was_not_validated_is_left_to_the_database() -> None:
    made = transaction(timestamp=NOON)
    unchecked = Transaction.model_construct(
        **{name: getattr(made, name) for name in Transaction.model_fields}
    )
    assert row_of(unchecked) == row_of(made)
