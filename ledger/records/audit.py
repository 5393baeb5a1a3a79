"""What the execution ledger answers: runs as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Self
from uuid import UUID

from ledger.errors import InvalidRecord
from ledger.records.execution import ExecutionStatus
from ledger.records.execution_parts import ExecutionCost, ExecutionTrace
from ledger.records.payloads import as_floats, json_value
from ledger.records.plain import Record, plain

_COLUMNS: Final = {"cost": "cost_json", "trace": "execution_trace_json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord(Record):
    """A run as it is stored. In payloads, numbers with a fraction are Decimals."""

    id: UUID
    run_id: str
    parent_run_id: str | None
    project_id: UUID
    user_id: UUID
    agent_id: str
    intent: str
    input: Mapping[str, Any]
    output: Mapping[str, Any] | None
    cost: ExecutionCost
    trace: ExecutionTrace
    status: ExecutionStatus
    error_message: str | None
    total_cost_cents: Decimal
    duration_ms: int
    created_at: datetime
    """When it ended."""
    recorded_at: datetime
    """When it was appended, by the database's clock."""
    sequence: int
    """Its place in the chain of its project, from 1."""
    hash: bytes
    """Of this row and of all before it in the chain."""
    is_erased: bool
    """Whether its payloads were erased: of cost and trace only the totals are left."""
    unread: tuple[str, ...] = ()
    """Payloads in a form that this version does not know, as somebody appended them by SQL or by
    a later version: only the totals of cost and trace are given then, and {} of others. The CSV
    has them as they are."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The same of a stored row, whose JSON is text."""
        unread: list[str] = []

        def read(name: str, form: Callable[..., Any], otherwise: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the form makes
            text = row[_COLUMNS.get(name, name)]
            try:
                return None if text is None else form(**json_value(text))
            except (InvalidRecord, RecursionError, TypeError, ValueError):
                unread.append(name)
                return otherwise()

        made: dict[str, Any] = {
            "input": read("input", dict, dict),
            "output": read("output", dict, dict),
            "cost": read(
                "cost", ExecutionCost, lambda: ExecutionCost(total=row["total_cost_cents"])
            ),
            "trace": read(
                "trace", ExecutionTrace, lambda: ExecutionTrace(duration_ms=row["duration_ms"])
            ),
            "unread": tuple(unread),
            "created_at": row["created_at"].astimezone(UTC),
            "recorded_at": row["recorded_at"].astimezone(UTC),
            "hash": bytes(row["hash"]),
            "is_erased": row["salt"] is None,
        }
        rest = (field.name for field in fields(cls) if field.name not in made)
        return cls(**made, **{name: row[name] for name in rest})

    def to_dict(self) -> dict[str, Any]:
        """Money as decimal text, times as ISO 8601 in UTC, the hash in hexadecimal.

        Numbers in payloads stay numbers; one that has more digits than a float is text.
        """
        trace = self.trace.to_json()
        steps = [_step(step) for step in trace.pop("steps")]
        made = {
            "input": as_floats(self.input),
            "output": as_floats(self.output),
            "cost": plain(self.cost.to_json()),
            "trace": {**plain(trace), "steps": steps},
            "hash": self.hash.hex(),
        }
        rest = (field.name for field in fields(self) if field.name not in made)
        return {**{name: plain(getattr(self, name)) for name in rest}, **made}


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: as_floats(value) if name in {"result", "details"} else plain(value)
        for name, value in step.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure(Record):
    """That the payloads of a run were erased."""

    run_id: str
    project_id: UUID
    sequence: int
    reason: str
    erased_at: datetime
    erased_by: str
    """The database role that asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionPage(Record):
    """Some runs of many, newest first, and where they go on."""

    executions: tuple[ExecutionRecord, ...]
    total: int | None
    """How many runs match, on all pages; None for a page that was asked for by its cursor."""
    next_cursor: str | None
    """What to pass as ``after`` for the next page; None on the last one."""

    def to_dict(self) -> dict[str, Any]:
        """Each run as its own `to_dict` has it."""
        return {
            "executions": [each.to_dict() for each in self.executions],
            "total": self.total,
            "next_cursor": self.next_cursor,
        }
