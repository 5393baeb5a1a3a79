"""What the execution ledger answers about costs: what they went to, and which are unusual."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from ledger.records.plain import Record
from ledger.window import Window

Measure = Literal["cost", "duration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps(Record):
    """What steps of runs cost and took, as far as they say."""

    runs: int
    """Those that have such a step."""
    calls: int
    """The steps."""
    cost_cents: Decimal
    duration_ms: int
    failures: int
    """Steps with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCost(_Steps):
    """What the steps that called one tool cost."""

    tool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost(_Steps):
    """What the steps of one action cost, with a tool or without."""

    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attribution(Record):
    """What runs of a window cost, in US cents, exactly, and how much of that steps explain."""

    window: Window
    runs: int
    """All in the window, also those whose steps say nothing or are erased."""
    total_cents: Decimal
    """What the runs cost."""
    beyond_limit_cents: Decimal
    """What steps cost that the answer would list, were its limit greater."""
    unattributed_cents: Decimal
    """What the runs cost more than all of their steps say; negative where steps say more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCosts(_Attribution):
    """What was spent on tools.

    ``total_cents`` is the sum of the ``cost_cents`` of all ``tools``, ``beyond_limit_cents``,
    ``without_tool_cents`` and ``unattributed_cents``, to the last digit.
    """

    tools: tuple[ToolCost, ...]
    """The dearest first."""
    without_tool_cents: Decimal
    """What steps cost that name no tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts(_Attribution):
    """What was spent on actions.

    ``total_cents`` is the sum of the ``cost_cents`` of all ``steps``, ``beyond_limit_cents``
    and ``unattributed_cents``, to the last digit.
    """

    steps: tuple[StepCost, ...]
    """The dearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly(Record):
    """A run that cost, or took, much more or much less than its agent's runs did before."""

    run_id: str
    agent_id: str
    project_id: UUID
    created_at: datetime
    """When it ended, in UTC."""
    measure: Measure
    value: Decimal
    """Exact: US cents of a cost, milliseconds of a duration."""
    median: float
    """Of the agent's runs before, in the same unit."""
    deviation: float
    """How far runs usually are from it, in the same unit: an estimate of a standard deviation."""
    score: float | None
    """``(value - median) / deviation``, negative where the value is less than usual; None, for
    infinite, where all runs before had one and the same value, and this one has another."""
