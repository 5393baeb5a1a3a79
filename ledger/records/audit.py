"""What the execution ledger answers: runs as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from ledger.records.execution import ExecutionCost, ExecutionStatus, ExecutionTrace
from ledger.records.payloads import json_value
from ledger.records.plain import Record, plain


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

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The same of a stored row, whose JSON is text."""
        output = row["output"]
        made: dict[str, Any] = {
            "input": json_value(row["input"]),
            "output": None if output is None else json_value(output),
            "cost": ExecutionCost(**json_value(row["cost_json"])),
            "trace": ExecutionTrace(**json_value(row["execution_trace_json"])),
            "created_at": row["created_at"].astimezone(UTC),
            "recorded_at": row["recorded_at"].astimezone(UTC),
            "hash": bytes(row["hash"]),
            "is_erased": row["salt"] is None,
        }
        rest = (field.name for field in fields(cls) if field.name not in made)
        return cls(**made, **{name: row[name] for name in rest})

    def to_dict(self) -> dict[str, Any]:
        """Money as decimal text, times as ISO 8601 in UTC, the hash in hexadecimal."""
        made = {
            "cost": plain(self.cost.to_json()),
            "trace": plain(self.trace.to_json()),
            "hash": self.hash.hex(),
        }
        rest = (field.name for field in fields(self) if field.name not in made)
        return {**{name: plain(getattr(self, name)) for name in rest}, **made}


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
