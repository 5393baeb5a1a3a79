"""What a run had spent of its budget, as it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from ledger.records.plain import Record

Penalty: TypeAlias = tuple[str | None, Decimal]
"""Its reason, and the US cents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetMetrics(Record):
    """What a run had spent at one moment, in US cents, and on what."""

    budget_cents: Decimal | None
    """None for no limit."""
    total_cents: Decimal
    """The four parts, which add up to it exactly."""
    tokens_cents: Decimal
    tool_calls_cents: Decimal
    external_requests_cents: Decimal
    penalties_cents: Decimal
    input_tokens: int
    output_tokens: int
    tool_calls: Mapping[str, int]
    """How many, by the tool's name."""
    external_requests: Mapping[str, int]
    """How many, by the service's name."""
    penalties: tuple[Penalty, ...]
    """In the order in which they were accounted."""
    is_exceeded: bool
