"""One run: as it is recorded, or to be recorded when it ends."""

# ruff: noqa: A002, PLR0913 - the ledger has the word `input`, and records a run under as much

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from ledger.errors import LedgerError
from ledger.queries.executions import execution
from ledger.repositories.audit_runs import AsyncRun, Run
from ledger.repositories.running import say_without_prices, terms_of
from ledger.write.price_list import price_list

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from ledger.pricing.budget_rates import Amount, BudgetRates
    from ledger.pricing.price import PriceList
    from ledger.queries.query import Context, Query
    from ledger.records.audit import ExecutionRecord
    from ledger.records.execution import Execution
    from ledger.write.commands import Plan

Result = TypeVar("Result")


class AuditExecution:
    """One run, called."""

    _known_prices: PriceList | None = None

    if TYPE_CHECKING:  # the repository's

        @property
        def _is_bound(self) -> bool: ...
        def fetch(self, ask: Callable[[Context], Query[Result]]) -> Result: ...
        def perform(self, plan: Plan[Result]) -> Result: ...
        def record_execution(self, execution: Execution | Mapping[str, Any]) -> ExecutionRecord: ...

    @overload
    def execution(self, run_id: str) -> ExecutionRecord | None: ...
    @overload
    def execution(
        self,
        run_id: str,
        *,
        project_id: UUID,
        user_id: UUID,
        agent_id: str,
        intent: str,
        input: Mapping[str, Any] | None = None,
        parent_run_id: str | None = None,
        budget_cents: Amount | None = None,
        rates: BudgetRates | None = None,
        prices: PriceList | None = None,
    ) -> Run: ...
    def execution(
        self,
        run_id: str,
        *,
        project_id: UUID | None = None,
        user_id: UUID | None = None,
        agent_id: str | None = None,
        intent: str | None = None,
        input: Mapping[str, Any] | None = None,
        parent_run_id: str | None = None,
        budget_cents: Amount | None = None,
        rates: BudgetRates | None = None,
        prices: PriceList | None = None,
    ) -> ExecutionRecord | Run | None:
        """The run that is recorded under this id, or None; or a run that is about to begin.

        With nothing but ``run_id`` the stored record is read. With the rest, the answer is a
        `Run` to be entered::

            with ledger.audit.execution("run-1", project_id=..., user_id=..., agent_id="backend",
                                        intent="Deploy", budget_cents=5000) as run:
                with run.step("build", tool="docker") as step:
                    step.cost_cents = run.budget.account_tool_call("docker")
                run.budget.require()
                run.output = {"deployed": True}

        A budget stops nothing by itself: ``require()`` raises once more is spent, and
        ``is_exceeded`` says so.

        It is recorded when the block ends: completed; failed, with the exception; or aborted,
        with BudgetExceeded. Its cost is what ``run.budget`` was told, at the ledger's prices when
        it began, or ``prices``, or else the ``rates``. Bound to a
        caller's transaction, a run whose block raises is logged whole as well: what undoes the
        transaction undoes the run.

        Raises InvalidArgument where something is missing, and InvalidRecord where what is given
        breaks a rule of runs, before anything is done. What only the database can tell is raised
        at the end of the block: UnknownReference for a user or project that it does not know,
        ConflictingRecord where the run_id is taken.
        """
        given = {
            "project_id": project_id,
            "user_id": user_id,
            "agent_id": agent_id,
            "intent": intent,
            "input": input,
            "parent_run_id": parent_run_id,
            "budget_cents": budget_cents,
            "rates": rates,
            "prices": prices,
        }
        if all(value is None for value in given.values()):
            return self.fetch(lambda context: execution(context, run_id))
        return Run(
            terms_of(run_id, given),
            self._price_list,
            self.record_execution,
            is_bound=self._is_bound,
        )

    def _price_list(self) -> PriceList | None:
        # In a caller's transaction prices may be rolled back, and others be as many.
        known = None if self._is_bound else self._known_prices
        try:
            known = self._known_prices = self.perform(price_list(known))
        except LedgerError as error:
            say_without_prices(error, known)
        return known


class AsyncAuditExecution:
    """One run, awaited."""

    _known_prices: PriceList | None = None

    if TYPE_CHECKING:  # the repository's

        @property
        def _is_bound(self) -> bool: ...
        async def fetch(self, ask: Callable[[Context], Query[Result]]) -> Result: ...
        async def perform(self, plan: Plan[Result]) -> Result: ...
        async def record_execution(
            self, execution: Execution | Mapping[str, Any]
        ) -> ExecutionRecord: ...

    @overload
    def execution(self, run_id: str) -> Awaitable[ExecutionRecord | None]: ...
    @overload
    def execution(
        self,
        run_id: str,
        *,
        project_id: UUID,
        user_id: UUID,
        agent_id: str,
        intent: str,
        input: Mapping[str, Any] | None = None,
        parent_run_id: str | None = None,
        budget_cents: Amount | None = None,
        rates: BudgetRates | None = None,
        prices: PriceList | None = None,
    ) -> AsyncRun: ...
    def execution(
        self,
        run_id: str,
        *,
        project_id: UUID | None = None,
        user_id: UUID | None = None,
        agent_id: str | None = None,
        intent: str | None = None,
        input: Mapping[str, Any] | None = None,
        parent_run_id: str | None = None,
        budget_cents: Amount | None = None,
        rates: BudgetRates | None = None,
        prices: PriceList | None = None,
    ) -> Awaitable[ExecutionRecord | None] | AsyncRun:
        """The run that is recorded under this id, to be awaited; or a run that is about to begin.

        As `Audit.execution`: with more than ``run_id`` the answer is an `AsyncRun`, to be entered
        by ``async with``.
        """
        given = {
            "project_id": project_id,
            "user_id": user_id,
            "agent_id": agent_id,
            "intent": intent,
            "input": input,
            "parent_run_id": parent_run_id,
            "budget_cents": budget_cents,
            "rates": rates,
            "prices": prices,
        }
        if all(value is None for value in given.values()):
            return self.fetch(lambda context: execution(context, run_id))
        return AsyncRun(
            terms_of(run_id, given),
            self._price_list,
            self.record_execution,
            is_bound=self._is_bound,
        )

    async def _price_list(self) -> PriceList | None:
        # In a caller's transaction prices may be rolled back, and others be as many.
        known = None if self._is_bound else self._known_prices
        try:
            known = self._known_prices = await self.perform(price_list(known))
        except LedgerError as error:
            say_without_prices(error, known)
        return known
