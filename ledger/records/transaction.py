"""`Transaction`: one call to a language model, validated, as it is sent to the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Self
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from ledger.records.completion import EPOCH, MILLISECOND, complete, postgres_microseconds
from ledger.records.refusal import as_dict, invalid_record
from ledger.records.rules import jsonb

LONGEST_NAME: Final = 255
LONGEST_MESSAGE: Final = 10_000
GREATEST_INTEGER: Final = 2**31 - 1

_FILLED_IN: Any = None
"""What `timestamp` and `id` default to until the object is complete."""

_NO_NUL: Final = r"^[^\x00]*$"

Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME, pattern=_NO_NUL)]
Message = Annotated[str, StringConstraints(max_length=LONGEST_MESSAGE, pattern=_NO_NUL)]
Count = Annotated[int, Field(ge=0, le=GREATEST_INTEGER)]
"""What PostgreSQL's integer holds."""


class Transaction(BaseModel):
    """One call to a language model, as it was made and answered.

    `timestamp` is aware and cut to the millisecond; a number is Unix time. Without a
    `request_id` it defaults to now; with one it is mandatory, as the time is part of the
    record's identity. `input_tokens` and `output_tokens` are inclusive totals:
    `cache_read_tokens` and `cache_write_tokens` are parts of the one, `reasoning_tokens` of the
    other. `cost_usd` None means unpriced; it takes int, str, Decimal, and a float as the digits
    that repr() shows, rounded half-even to 12 decimals.

    `id` is a UUIDv7 of the timestamp: with a `request_id` derived from timestamp, user and key,
    else drawn when the object is made, so that sending the same object twice writes it once.
    It is an argument only so that a dumped record can be read back as the same one.

    Raises InvalidRecord. `model_validate` raises pydantic's ValidationError, which is what
    frameworks that call it expect.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    user_id: UUID
    timestamp: AwareDatetime = _FILLED_IN
    id: UUID = _FILLED_IN
    request_id: Name | None = None
    provider: Name
    model: Name
    response_model: Name | None = None
    operation: Name | None = None
    category: Name | None = None
    latency_ms: Count
    time_to_first_token_ms: Count | None = None
    input_tokens: Count = 0
    output_tokens: Count = 0
    reasoning_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    cost_usd: Annotated[Decimal, Field(ge=0)] | None = None
    http_status_code: Annotated[int, Field(ge=100, le=599)] | None = None
    error_type: Name | None = None
    error_message: Message | None = None
    is_streaming: bool = False
    service_tier: Name | None = None
    session_id: Name | None = None
    agent_id: Name | None = None
    project_id: UUID | None = None
    # Not `= {}`, of which pydantic makes a deep copy a record: 0.8 us.
    attributes: dict[str, JsonValue] = Field(default_factory=dict)

    if not TYPE_CHECKING:  # the synthesised signature is the typed one

        def __init__(self, /, **values: Any) -> None:
            self._validate(values)

    @classmethod
    def of(cls, record: object) -> Self:
        """The transaction of a mapping. Raises InvalidRecord for anything else."""
        # Not cls(**record), which copies the mapping twice: 8 % of what validating costs.
        made = cls.__new__(cls)
        made._validate(as_dict(record))  # noqa: SLF001 - ours
        return made

    def _validate(self, values: dict[str, Any]) -> None:
        try:
            self.__pydantic_validator__.validate_python(values, self_instance=self)
        except ValidationError as error:
            raise invalid_record(error) from None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        values = self.__dict__
        values["timestamp"] = EPOCH + complete(values) * MILLISECOND
        if values["id"] is None:
            values["id"] = UUID(bytes=values["id_bytes"])
        self.__pydantic_fields_set__.update(("timestamp", "id"))
        return self

    # `complete` adds these four to what is validated; `model_construct` validates nothing.

    @cached_property
    def user_id_bytes(self) -> bytes:
        """The user as binary COPY sends it."""
        return self.user_id.bytes

    @cached_property
    def postgres_microseconds(self) -> int:
        """The timestamp as binary COPY sends it: microseconds since 2000."""
        return postgres_microseconds((self.timestamp - EPOCH) // MILLISECOND)

    @cached_property
    def id_bytes(self) -> bytes:
        """The id as binary COPY sends it."""
        return self.id.bytes

    @cached_property
    def attributes_jsonb(self) -> str:
        """The attributes as binary COPY sends them: a version byte, then JSON."""
        return jsonb(self.attributes)

    @property
    def attributes_json(self) -> str:
        """The attributes as JSON, as they were when the object was made."""
        return self.attributes_jsonb[1:]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The same record, or, with ``update``, another one, validated like any.

        The id stays unless the update changes what it is made of.
        """
        if not update:
            return super().model_copy(deep=deep)
        values = {name: getattr(self, name) for name in type(self).model_fields}
        if not update.keys().isdisjoint(("timestamp", "user_id", "request_id")):
            del values["id"]
        return self.of(values | dict(update))

    def __hash__(self) -> int:
        return hash(self.id)
