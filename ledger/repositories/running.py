"""A run while it goes on: what it may spend, and what it does."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ledger.errors import InvalidArgument, LedgerError
from ledger.pricing.budget import ExecutionBudget
from ledger.pricing.budget_rates import BudgetRates
from ledger.records.execution import Execution
from ledger.records.execution_parts import ExecutionStep
from ledger.records.payloads import checked
from ledger.repositories.run_steps import Step, kept_of
from ledger.repositories.run_texts import message, note, status, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from ledger.pricing.budget_rates import Amount
    from ledger.pricing.price import PriceList
    from ledger.records.audit import ExecutionRecord

_logger: Final = logging.getLogger("ledger.audit")


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
    _begun: ExecutionBudget | None = None

    def __init__(self, terms: RunTerms, *, is_bound: bool) -> None:
        self.terms = terms
        self._is_bound = is_bound
        # As it is now: what the run makes of it is not what was asked.
        self._input = checked("input", terms.input)
        # What cannot be recorded is refused before anything is done.
        Execution(**self._fields(None, cost={"total": 0}, trace={"duration_ms": 0}))
        self._new_budget(terms.prices)
        self._steps: list[ExecutionStep] = []
        self._lock, self._is_over = Lock(), False
        self._began = monotonic()

    @contextmanager
    def step(self, action: str, *, tool: str | None = None) -> Iterator[Step]:
        """Take a step: its time, and the error that it ends with, go into the trace.

        Steps may be taken by threads and tasks at once; they stand in the order in which they end.
        Raises InvalidRecord for a name that is none, and for what is set of the step and cannot
        be kept, a cost or a result, say: the rest of the step is; and InvalidArgument for a step
        that ends after its run.
        """
        ExecutionStep(action=action, tool=tool)
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
                taken["error"] = message(error)
            kept, refused = kept_of(taken, step, error)
            self._keep(kept, error or refused)
            if refused is not None and error is None:
                raise refused

    def _keep(self, step: ExecutionStep, error: BaseException | None) -> None:
        with self._lock:
            if not self._is_over:
                self._steps.append(step)
                return
        said = (
            f"step {step.action!r} ended after its run, {self.terms.run_id!r}, and is not in its"
            " trace; wait for it before the run's block ends"
        )
        if error is None:
            raise InvalidArgument(said)
        note(error, said)

    @property
    def budget(self) -> ExecutionBudget:
        """What the run may spend, and has. Raises InvalidArgument before the run is entered."""
        if self._begun is None:
            raise InvalidArgument(
                f"run {self.terms.run_id!r} has not begun; enter it by `with`, or `async with`, and"
                " ask for its budget there"
            )
        return self._begun

    def begin(self, prices: PriceList | None) -> None:
        """Begin to account and to measure. Raises InvalidArgument for a run that has begun."""
        if self._begun is not None:
            raise InvalidArgument(
                f"run {self.terms.run_id!r} has begun before, and is recorded once; enter a new"
                " `ledger.audit.execution(...)`, with another run_id"
            )
        self._begun = self._new_budget(prices)
        self._began = monotonic()

    def _new_budget(self, prices: PriceList | None) -> ExecutionBudget:
        terms = self.terms
        return ExecutionBudget(
            terms.run_id, terms.agent_id, terms.budget_cents, rates=terms.rates, prices=prices
        )

    @contextmanager
    def recording(self, error: BaseException | None) -> Iterator[dict[str, Any]]:
        """The run as it is to be recorded; in the log, too, where it is not, or may not stay so.

        What recording raises passes, unless it would mask ``error``.
        """
        ended = self._ended(error)
        # To record it later by. Now the database's clock says it: a host's may be ahead of that.
        dated = {**ended, "created_at": datetime.now(UTC)}
        try:
            yield ended
        except BaseException as failure:
            if self.record is None:
                told = failure.__cause__ if isinstance(failure, CancelledError) else None
                self._log(f"could not be recorded ({message(told or failure)})", dated, error)
            if error is None or not isinstance(failure, Exception):
                raise
        else:
            if self._is_bound and error is not None:
                self._log("is lost if what was raised undoes its transaction", dated, error)

    def _log(self, fate: str, run: Mapping[str, Any], error: BaseException | None) -> None:
        said = f"run {self.terms.run_id!r} {fate}"
        with suppress(Exception):  # what a host's handlers and filters raise
            _logger.error("%s; it is: %s", said, whole(run))
        if error is not None:
            note(error, said)

    def _ended(self, error: BaseException | None) -> dict[str, Any]:
        # What goes on after this, in threads and tasks that nobody waited for, is refused.
        self.budget.close()
        with self._lock:
            self._is_over = True
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
            "input": self._input,
            "output": self.output,
            "status": status(error),
            "error_message": None if error is None else message(error, of=terms.run_id),
            **measured,
        }


def terms_of(run_id: str, given: Mapping[str, Any]) -> RunTerms:
    """What a run is recorded under. Raises InvalidArgument, naming what is not said."""
    required = ("project_id", "user_id", "agent_id", "intent")
    if missing := [name for name in required if given.get(name) is None]:
        raise InvalidArgument(
            f"run {run_id!r} is to be recorded without {', '.join(missing)}; say it, or leave all"
            " but run_id out to read what is recorded"
        )
    return RunTerms(run_id=run_id, **{k: v for k, v in given.items() if v is not None})


def say_without_prices(error: LedgerError, known: PriceList | None) -> None:
    """Say what tokens are priced by where the stored prices cannot be read."""
    by = "its rates alone" if known is None else "the prices that were read before"
    _logger.warning("a run's tokens are priced by %s: %s", by, error)


def _since(began: float) -> int:
    return max(round((monotonic() - began) * 1000), 0)
