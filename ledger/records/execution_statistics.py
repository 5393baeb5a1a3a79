"""What the execution ledger answers about the costs and ends of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from ledger.records.plain import Record
from ledger.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class CostStatistics(Record):
    """What the runs of an agent cost, in US cents; zeros where there are none."""

    agent_id: str
    project_id: UUID | None
    """None for all projects."""
    window: Window | None
    """When they ended; None for all times."""
    count: int
    total_cents: Decimal
    average_cents: Decimal
    minimum_cents: Decimal
    maximum_cents: Decimal
    p50_cents: Decimal
    p95_cents: Decimal
    percentile_error: float
    """How far a percentile may be from the cost of the run at its rank, as a share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentShare(Record):
    """What one agent has of a project's runs."""

    executions: int
    cost_cents: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionStatistics(Record):
    """How the runs of a project ended, and what they came to; zeros where there are none."""

    project_id: UUID
    window: Window | None
    """When they ended; None for all times."""
    total_executions: int
    successful: int
    failed: int
    aborted: int
    total_cost_cents: Decimal
    average_cost_cents: Decimal
    average_duration_ms: Decimal
    by_agent: Mapping[str, AgentShare]
    """By the agent's id."""
