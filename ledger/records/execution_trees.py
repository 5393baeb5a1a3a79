"""What the execution ledger answers about runs that triggered others: a tree of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from ledger.records.execution import ExecutionStatus
from ledger.records.plain import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionNode(Record):
    """A run without its payloads."""

    run_id: str
    parent_run_id: str | None
    """The run that triggered it; None where nobody said, and not always recorded."""
    agent_id: str
    project_id: UUID
    status: ExecutionStatus
    total_cost_cents: Decimal
    duration_ms: int
    created_at: datetime
    """When it ended, in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionTree(Record):
    """A run, and every run that it triggered, directly or not."""

    run: ExecutionNode
    children: tuple[ExecutionTree, ...]
    """What it triggered itself, oldest first."""
    subtree_cost_cents: Decimal
    """What this run and all below it in this answer cost, exactly, in US cents."""
    subtree_runs: int
    """How many they are, this one included."""
    is_cut: bool
    """Whether runs are missing below, since they lie deeper than was asked for."""
