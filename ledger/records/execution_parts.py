"""What a run cost and what it did, validated: the parts of an execution that are kept as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

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
from ledger.records.completion import since_epoch
from ledger.records.payloads import checked
from ledger.records.refusal import invalid_record, refusal
from ledger.records.rules import rounded
from ledger.records.tokens import GREATEST_COUNT
from ledger.records.transaction import Name

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


WholeNumber = Annotated[int, BeforeValidator(_number), Field(ge=0, le=GREATEST_COUNT)]
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
    duration_ms: WholeNumber | None = None
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

    duration_ms: WholeNumber
    steps: tuple[ExecutionStep, ...] = ()
    tool_calls: WholeNumber | None = None
    api_calls: WholeNumber | None = None

    def to_json(self) -> dict[str, Any]:
        """The same in JSON's types."""
        return {**super().to_json(), "steps": [step.to_json() for step in self.steps]}
