"""A run while it goes on: what it may spend, and what it does."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ledger.errors import BudgetExceeded, InvalidArgument, InvalidRecord, LedgerError
from ledger.pricing.budget import ExecutionBudget
from ledger.pricing.budget_rates import BudgetRates
from ledger.records.execution import LONGEST_TEXT, Execution, ExecutionStep
from ledger.records.plain import plain
from ledger.records.rules import require_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from ledger.pricing.budget_rates import Amount
    from ledger.pricing.price import PriceList
    from ledger.records.audit import ExecutionRecord

_logger: Final = logging.getLogger("ledger.audit")


@dataclass(slots=True, kw_only=True)
class Step:
    """A step of a run while it is taken; what is set of it is kept in the trace."""

    tool: str | None = None
    cost_cents: Amount | None = None
    """What the step cost; accounted by nobody but the budget's methods."""
    result: Any = None
    """Anything that JSON holds."""
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTerms:
    """What a run is recorded under, and what it may spend."""

    run_id: str
    project_id: UUID
    user_id: UUID
    agent_id: str
    intent: str
    input: Mapping[str, Any] = field(default_factory=dict)
    parent_run_id: str | None = None
    budget_cents: Amount | None = None
    rates: BudgetRates = field(default_factory=BudgetRates)
    prices: PriceList | None = None


class Running:
    """What is the same of runs that record by calling and by awaiting."""

    output: Mapping[str, Any] | None = None
    """What the run came to; set it before the run ends."""
    record: ExecutionRecord | None = None
    """As it was recorded, once the run has ended."""

    def __init__(self, terms: RunTerms) -> None:
        self.terms = terms
        # What cannot be recorded is refused before anything is done.
        Execution(**self._fields(None, cost={"total": 0}, trace={"duration_ms": 0}))
        self._budget(terms.prices)
        self._steps: list[ExecutionStep] = []
        self._began = monotonic()

    @contextmanager
    def step(self, action: str, *, tool: str | None = None) -> Iterator[Step]:
        """Take a step: its time, and the error that it ends with, go into the trace.

        Steps may be taken by threads and tasks at once; they stand in the order in which they end.
        Raises InvalidRecord for a name that is none, and for a cost that is none.
        """
        require_text("action", action)
        step, timestamp, began = Step(tool=tool), datetime.now(UTC), monotonic()
        error: BaseException | None = None
        try:
            yield step
        except BaseException as raised:
            error = raised
            raise
        finally:
            taken = {"action": action, "timestamp": timestamp, "duration_ms": _since(began)}
            if error is not None:
                taken["error"] = _message(error)
            self._steps.append(_step(taken, step, error))

    def begin(self, prices: PriceList | None) -> None:
        self.budget = self._budget(prices)
        """What the run may spend, and has."""
        self._began = monotonic()

    def _budget(self, prices: PriceList | None) -> ExecutionBudget:
        terms = self.terms
        return ExecutionBudget(
            terms.run_id, terms.agent_id, terms.budget_cents, rates=terms.rates, prices=prices
        )

    def ended(self, error: BaseException | None) -> dict[str, Any]:
        """The run as it is to be recorded."""
        metrics = self.budget.metrics()
        trace = {
            "steps": tuple(self._steps),
            "duration_ms": _since(self._began),
            "tool_calls": sum(metrics.tool_calls.values()),
            "api_calls": sum(metrics.external_requests.values()),
        }
        return self._fields(error, cost=self.budget.cost(), trace=trace)

    def _fields(self, error: BaseException | None, **measured: Any) -> dict[str, Any]:
        terms = self.terms
        return {
            "run_id": terms.run_id,
            "parent_run_id": terms.parent_run_id,
            "project_id": terms.project_id,
            "user_id": terms.user_id,
            "agent_id": terms.agent_id,
            "intent": terms.intent,
            "input": terms.input,
            "output": self.output,
            "status": _status(error),
            "error_message": None if error is None else _message(error),
            **measured,
        }

    def not_recorded(
        self, ended: Mapping[str, Any], failure: BaseException, error: BaseException | None
    ) -> None:
        """Keep the whole of a run that could not be recorded, and mask nobody's exception."""
        _logger.error(
            "run %r could not be recorded (%s: %s); it is: %s",
            self.terms.run_id,
            type(failure).__name__,
            failure,
            json.dumps(_written(ended), ensure_ascii=False, default=repr),
        )
        if error is not None:
            error.add_note(f"The run {self.terms.run_id!r} could not be recorded: {failure}")


def terms_of(run_id: str, given: Mapping[str, Any]) -> RunTerms:
    """What a run is recorded under. Raises InvalidArgument, naming what is not said."""
    required = ("project_id", "user_id", "agent_id", "intent")
    if missing := [name for name in required if given.get(name) is None]:
        raise InvalidArgument(
            f"run {run_id!r} is to be recorded without {', '.join(missing)}; say it, or leave all"
            " but run_id out to read what is recorded"
        )
    return RunTerms(run_id=run_id, **{k: v for k, v in given.items() if v is not None})


def without_prices(error: LedgerError) -> None:
    """Say that tokens are priced by rates alone, as the catalogue cannot be read."""
    _logger.warning("a run's tokens are priced by its rates alone: %s", error)


def _step(taken: Mapping[str, Any], step: Step, error: BaseException | None) -> ExecutionStep:
    """The step as the trace has it; what was set of it must not mask what was raised in it."""
    try:
        return ExecutionStep(
            **taken,
            tool=step.tool,
            cost_cents=step.cost_cents,
            result=step.result,
            details=step.details,
        )
    except InvalidRecord as refused:
        if error is None:
            raise
        error.add_note(f"What was set of step {taken['action']!r} is not kept: {refused}")
        return ExecutionStep(**taken)


def _status(error: BaseException | None) -> str:
    if error is None:
        return "completed"
    stopped = isinstance(error, BudgetExceeded) or not isinstance(error, Exception)
    return "aborted" if stopped else "failed"


def _message(error: BaseException) -> str:
    """What an error says, as text that can be stored."""
    said = str(error) if isinstance(error, BudgetExceeded) else f"{type(error).__name__}: {error}"
    storable = said.replace("\0", "�").encode("utf-8", "replace").decode()
    return storable[:LONGEST_TEXT]


def _since(began: float) -> int:
    return max(round((monotonic() - began) * 1000), 0)


def _written(ended: Mapping[str, Any]) -> dict[str, Any]:
    trace = {**ended["trace"], "steps": [step.to_json() for step in ended["trace"]["steps"]]}
    whole = {**ended, "cost": ended["cost"].to_json(), "trace": trace}
    return {name: plain(value) for name, value in whole.items()}
