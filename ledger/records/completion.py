"""From valid values to a whole transaction: its time cut, its id given, its money rounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from ledger.records.identity import derived_bytes, drawn_bytes, milliseconds_of
from ledger.records.refusal import refusal
from ledger.records.rules import NO_ATTRIBUTES, jsonb, part_over_whole, rounded

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)
_END_MS: Final = 253_402_300_800_000
"""The year 10000, which Python's datetime does not know."""
_POSTGRES_EPOCH_MS: Final = 946_684_800_000


def complete(values: dict[str, Any]) -> int:
    """Check what concerns several values at once, and add them in the form that COPY sends.

    Gives the time in milliseconds since 1970, which is also what the id begins with; `timestamp`
    and `id` stay as they were sent. Raises InvalidRecord.

    One function for a whole record, on a dictionary: at 7 us a row for COPY itself, a validator
    a field would cost as much as the database.
    """
    milliseconds = since_epoch("timestamp", values["timestamp"] or _now(values))
    user_id: UUID = values["user_id"]
    values["user_id_bytes"] = user_id.bytes
    values["postgres_microseconds"] = postgres_microseconds(milliseconds)
    values["id_bytes"] = _identity(values, milliseconds)
    if (cost := values["cost_usd"]) is not None:
        values["cost_usd"] = rounded(cost)
    if (
        values["reasoning_tokens"] > values["output_tokens"]
        or values["cache_read_tokens"] + values["cache_write_tokens"] > values["input_tokens"]
        or (values["time_to_first_token_ms"] or 0) > values["latency_ms"]
    ):
        raise part_over_whole(values)
    attributes = values["attributes"]
    values["attributes_jsonb"] = jsonb(attributes) if attributes else NO_ATTRIBUTES
    return milliseconds


def since_epoch(field: str, moment: datetime) -> int:
    """Whole milliseconds since 1970. Raises InvalidRecord outside the years that all agree on."""
    milliseconds = (moment - EPOCH) // MILLISECOND
    if not 0 <= milliseconds < _END_MS:
        raise refusal(field, moment, "outside the years 1970 to 9999")
    return milliseconds


def postgres_microseconds(milliseconds: int) -> int:
    """A time in milliseconds since 1970 as PostgreSQL counts it: in microseconds since 2000."""
    return (milliseconds - _POSTGRES_EPOCH_MS) * 1000


def _now(values: dict[str, Any]) -> datetime:
    if values["request_id"] is not None:
        rule = (
            "needs a timestamp, the other half of the record's identity; send the time at"
            " which the call was made"
        )
        raise refusal("request_id", values["request_id"], rule)
    if values["id"] is not None:
        raise refusal("id", str(values["id"]), "needs the timestamp that it was made of")
    return datetime.now(UTC)


def _identity(values: dict[str, Any], milliseconds: int) -> bytes:
    given: UUID | None = values["id"]
    key = values["request_id"]
    if key is None:
        if given is None:
            return drawn_bytes(milliseconds)
        if milliseconds_of(given) != milliseconds:
            moment = EPOCH + milliseconds * MILLISECOND
            rule = f"not a UUIDv7 of its timestamp, {moment.isoformat()}"
            raise refusal("id", str(given), rule)
        return given.bytes
    identity = derived_bytes(milliseconds, values["user_id"], key)
    if given is not None and given.bytes != identity:
        rule = f"not that of its timestamp, user_id and request_id, {UUID(bytes=identity)}"
        raise refusal("id", str(given), rule)
    return identity
