"""The answers of the execution ledger as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ledger.cli.console import printable
from ledger.cli.figures import count, milliseconds, moment
from ledger.cli.tables import plain_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from rich.table import Table

    from ledger.records.audit import ExecutionRecord
    from ledger.records.execution_statistics import CostStatistics, ExecutionStatistics

_LONGEST_MESSAGE = 200
_COSTS = ("runs", "total cents", "average", "least", "p50", "p95", "greatest")


def agent_table(found: CostStatistics) -> Table:
    """What the runs of an agent cost, in one row."""
    table = plain_table(names=(), numbers=_COSTS)
    amounts = (
        found.total_cents,
        found.average_cents,
        found.minimum_cents,
        found.p50_cents,
        found.p95_cents,
        found.maximum_cents,
    )
    table.add_row(count(found.count), *map(_cents, amounts))
    return table


def project_tables(found: ExecutionStatistics) -> list[Table]:
    """How runs ended and what they came to, and then agent by agent."""
    numbers = ("runs", "completed", "failed", "aborted", "total cents", "average", "average ms")
    whole = plain_table(names=(), numbers=numbers)
    whole.add_row(
        *map(count, (found.total_executions, found.successful, found.failed, found.aborted)),
        *map(_cents, (found.total_cost_cents, found.average_cost_cents)),
        milliseconds(float(found.average_duration_ms)),
    )
    agents = plain_table(names=("agent",), numbers=("runs", "total cents"))
    for agent_id, share in found.by_agent.items():
        agents.add_row(Text(printable(agent_id)), count(share.executions), _cents(share.cost_cents))
    return [whole, agents] if found.by_agent else [whole]


def runs_table(runs: Iterable[ExecutionRecord]) -> Table:
    """Runs, a row each."""
    table = plain_table(names=("run", "agent", "status", "ended"), numbers=("cents",))
    table.add_column("error")
    for run in runs:
        table.add_row(
            Text(printable(run.run_id)),
            Text(printable(run.agent_id)),
            run.status,
            moment(run.created_at),
            _cents(run.total_cost_cents),
            Text(_shortened(run.error_message or "")),
        )
    return table


def _shortened(message: str) -> str:
    """What fits a cell, on one line; ``--json`` has all of it."""
    line = printable(" ".join(message.split()))
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[: _LONGEST_MESSAGE - 1]}…"


def _cents(amount: Decimal) -> str:
    """US cents to a hundredth; ``--json`` has every digit."""
    return f"{amount:,.2f}"
