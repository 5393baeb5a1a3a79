"""Runs that are recorded when their block ends, by calling and by awaiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from ledger.repositories.running import Running, RunTerms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType
    from typing import Any

    from ledger.pricing.price import PriceList
    from ledger.records.audit import ExecutionRecord


class Run(Running):
    """A run that is recorded when its block ends: completed, failed or aborted.

    Made by ``ledger.audit.execution(...)``. What is raised in the block passes through it:
    BudgetExceeded, and what stops a program rather than fails (KeyboardInterrupt, SystemExit), are
    recorded as aborted, other exceptions as failed. Where recording fails, the whole of the run
    is logged as an error by the logger `ledger.audit`; the failure is raised, unless the block
    raised something itself.
    """

    def __init__(
        self,
        terms: RunTerms,
        prices: Callable[[], PriceList | None],
        record: Callable[[Mapping[str, Any]], ExecutionRecord],
    ) -> None:
        super().__init__(terms)
        self._prices, self._record = prices, record

    def __enter__(self) -> Self:
        prices = self.terms.prices
        self.begin(self._prices() if prices is None else prices)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ended = self.ended(error)
        try:
            self.record = self._record(ended)
        except BaseException as failure:
            self.not_recorded(ended, failure, error)
            if error is None or not isinstance(failure, Exception):
                raise


class AsyncRun(Running):
    """The same, awaited; a task that is cancelled has its run recorded as aborted."""

    def __init__(
        self,
        terms: RunTerms,
        prices: Callable[[], Awaitable[PriceList | None]],
        record: Callable[[Mapping[str, Any]], Awaitable[ExecutionRecord]],
    ) -> None:
        super().__init__(terms)
        self._prices, self._record = prices, record

    async def __aenter__(self) -> Self:
        prices = self.terms.prices
        self.begin(await self._prices() if prices is None else prices)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ended = self.ended(error)
        try:
            self.record = await self._record(ended)
        except BaseException as failure:
            self.not_recorded(ended, failure, error)
            if error is None or not isinstance(failure, Exception):
                raise
