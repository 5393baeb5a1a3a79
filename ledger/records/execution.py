"""`Execution`: one run of an agent, validated, as it is sent to the execution ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ledger.records.completion import EPOCH, MILLISECOND, since_epoch
from ledger.records.execution_parts import ExecutionCost, ExecutionTrace, Text
from ledger.records.payloads import encoded, json_text
from ledger.records.refusal import as_fields, invalid_record, refusal
from ledger.records.transaction import Name

ExecutionStatus = Literal["completed", "failed", "aborted"]


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
