"""`Execution`: one run of an agent, validated, as it is sent to the execution ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ledger.errors import InvalidRecord
from ledger.records.completion import EPOCH, MILLISECOND, since_epoch
from ledger.records.payloads import checked, encoded, json_text
from ledger.records.refusal import as_fields, invalid_record, refusal
from ledger.records.rules import rounded
from ledger.records.tokens import GREATEST_COUNT
from ledger.records.transaction import Name

ExecutionStatus = Literal["completed", "failed", "aborted"]

LONGEST_TEXT: Final = 10_000
_NO_NUL: Final = r"^[^\x00]*$"

Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT, pattern=_NO_NUL)]
Result = Annotated[Any, PlainValidator(lambda value: checked("result", value))]
"""Anything that JSON holds."""
Details = Annotated[dict[str, Any], AfterValidator(lambda value: checked("details", value))]


def _number(given: object) -> object:
    if isinstance(given, bool):
        raise PydanticCustomError("number", "is no number")
    return given


def _cents(cents: Decimal) -> Decimal:
    try:
        return rounded(cents)
    except InvalidRecord:
        rule = "more than 12 digits before the decimal point"
        raise PydanticCustomError("digits", rule) from None


Milliseconds = Annotated[int, BeforeValidator(_number), Field(ge=0, le=GREATEST_COUNT)]
Calls = Milliseconds
Cents = Annotated[Decimal, BeforeValidator(_number), Field(ge=0), AfterValidator(_cents)]
"""US cents, exact: rounded half-even to 12 decimals, of at most 12 digits before them."""


def _within_years(moment: datetime) -> datetime:
    since_epoch("timestamp", moment)
    return moment


_PARTS: Final = {
    "tokens": "tokens",
    "tool_calls": "toolCalls",
    "external_requests": "externalRequests",
    "penalties": "penalties",
}
"""The known parts of a cost, and what they are called in JSON."""


class _Part(BaseModel):
    """A part of an execution, written as JSON by the names that the source has for it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    if not TYPE_CHECKING:  # the synthesised signature is the typed one

        def __init__(self, /, **values: Any) -> None:
            try:
                self.__pydantic_validator__.validate_python(values, self_instance=self)
            except ValidationError as error:
                raise invalid_record(error) from None

        # Inside another record it is not called, or an error would not say where it is.
        __init__.__pydantic_base_init__ = True

    def to_json(self) -> dict[str, Any]:
        """The same in JSON's types, without what is not there; numbers are exact.

        By hand, as pydantic takes five times as long.
        """
        return {name: value for name, value in self.__dict__.items() if value is not None}


class CostBreakdown(_Part):
    """What a run's cost is made of, in US cents; other parts go by their own names.

    The parts need not come to the total: what nobody has itemised is in none of them.
    """

    model_config = ConfigDict(
        extra="allow", alias_generator=lambda name: _PARTS[name], populate_by_name=True
    )
    __pydantic_extra__: dict[str, Cents] = Field(init=False)

    tokens: Cents | None = None
    tool_calls: Cents | None = None
    external_requests: Cents | None = None
    penalties: Cents | None = None

    @model_validator(mode="after")
    def _has_each_part_once(self) -> Self:
        if others := self.__pydantic_extra__:
            checked("breakdown", dict.fromkeys(others))
            for name in others.keys() & _PARTS.keys():
                raise refusal(f"breakdown.{name}", others[name], f"is there as {_PARTS[name]} too")
        return self

    def to_json(self) -> dict[str, Any]:
        """Each part by the name that JSON has for it."""
        parts = ((alias, getattr(self, name)) for name, alias in _PARTS.items())
        known = {alias: cents for alias, cents in parts if cents is not None}
        return known | self.__pydantic_extra__


class ExecutionCost(_Part):
    """What a run cost, in US cents; ``total`` counts, ``breakdown`` explains."""

    total: Cents
    breakdown: CostBreakdown = Field(default_factory=CostBreakdown)

    def to_json(self) -> dict[str, Any]:
        """The same in JSON's types."""
        return {"total": self.total, "breakdown": self.breakdown.to_json()}


class ExecutionStep(_Part):
    """One thing that a run did; what has no field here goes into ``details``."""

    action: Name
    timestamp: Annotated[AwareDatetime, AfterValidator(_within_years)] | None = None
    """When it began."""
    duration_ms: Milliseconds | None = None
    tool: Name | None = None
    cost_cents: Cents | None = None
    result: Result = None
    error: Text | None = None
    details: Details | None = None

    def to_json(self) -> dict[str, Any]:
        """The same in JSON's types; the time is ISO 8601 in UTC."""
        values = super().to_json()
        if self.timestamp is not None:
            moment = self.timestamp.astimezone(UTC)
            values["timestamp"] = moment.isoformat().replace("+00:00", "Z")
        return values


class ExecutionTrace(_Part):
    """What a run did and how long it took, in whole milliseconds."""

    duration_ms: Milliseconds
    steps: tuple[ExecutionStep, ...] = ()
    tool_calls: Calls | None = None
    api_calls: Calls | None = None

    def to_json(self) -> dict[str, Any]:
        """The same in JSON's types."""
        return {**super().to_json(), "steps": [step.to_json() for step in self.steps]}


def _cost(given: object) -> object:
    """A bare number is the total of a cost that nobody has broken down."""
    return {"total": given} if isinstance(given, (int, float, str, Decimal)) else given


class Execution(BaseModel):
    """One run of an agent, as it ended.

    `run_id` is unique: the same one with the same content is recorded once, with other content
    it is a conflict. `cost` is in US cents; a number alone is its total. `error_message` is
    required of a run that failed or was aborted. `input` and `output` hold what JSON holds, and
    Decimals, each of at most 1 MiB as JSON, as is the trace. `parent_run_id` names the run that
    triggered this one, which may be recorded later. `created_at`, when the run ended, is aware
    and cut to the millisecond; None is the moment at which it is recorded.

    Raises InvalidRecord.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    run_id: Name
    project_id: UUID
    user_id: UUID
    agent_id: Name
    intent: Text
    input: Mapping[str, Any] = Field(default_factory=dict)
    output: Mapping[str, Any] | None = None
    cost: Annotated[ExecutionCost, BeforeValidator(_cost)]
    trace: ExecutionTrace
    status: ExecutionStatus = "completed"
    error_message: Text | None = None
    parent_run_id: Name | None = None
    created_at: AwareDatetime | None = None

    if not TYPE_CHECKING:  # the synthesised signature is the typed one

        def __init__(self, /, **values: Any) -> None:
            try:
                self.__pydantic_validator__.validate_python(values, self_instance=self)
            except ValidationError as error:
                raise invalid_record(error) from None

    @classmethod
    def of(cls, record: object) -> Self:
        """The execution of a mapping, or the execution itself. Raises InvalidRecord."""
        if isinstance(record, cls) and "_payloads" in record.__dict__:
            return record
        return cls(**as_fields(record))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The same execution, or, with ``update``, another one, validated like any."""
        if not update:
            return super().model_copy(deep=deep)
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return self.of(values | dict(update))

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.created_at is not None:
            self.__dict__["created_at"] = _cut(self.created_at)
        if self.status != "completed" and self.error_message is None:
            raise refusal("error_message", None, f"is required of a run that is {self.status}")
        if self.parent_run_id == self.run_id:
            raise refusal("parent_run_id", self.parent_run_id, "is the run itself")
        self.__dict__["_payloads"] = {
            "input": json_text("input", self.input),
            "output": None if self.output is None else json_text("output", self.output),
            # Checked where they were made.
            "cost_json": encoded("cost", self.cost.to_json()),
            "execution_trace_json": encoded("trace", self.trace.to_json()),
        }
        return self

    @property
    def payloads(self) -> Mapping[str, str | None]:
        """The JSON text of each column that holds some, as it was when the object was made."""
        found: Mapping[str, str | None] = self.__dict__["_payloads"]
        return found


def _cut(moment: datetime) -> datetime:
    return EPOCH + since_epoch("created_at", moment) * MILLISECOND
