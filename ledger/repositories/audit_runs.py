"""Runs that are recorded when their block ends, by calling and by awaiting."""

from __future__ import annotations

import asyncio
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

    Made by ``ledger.audit.execution(...)``, and entered once. What is raised in the block passes
    through it: BudgetExceeded, also in a group, and what stops a program rather than fails
    (KeyboardInterrupt, SystemExit), are recorded as aborted, other exceptions as failed; of
    what they say, the first 10,000 characters. What threads and tasks that nobody waited for
    account after that, or take as a step, is refused by InvalidArgument.

    Where recording fails, the whole of the run is logged as an error by the logger
    `ledger.audit`, as JSON that ``record_execution`` takes; the failure is raised, unless the
    block raised something itself. Where it was the connection that was lost, the run may be
    recorded after all: a ConflictingRecord of ``created_at`` alone then says so. Bound to a
    caller's transaction, a run whose block raises is logged as well as recorded: what was raised
    may undo the transaction, and the run with it.
    """

    def __init__(
        self,
        terms: RunTerms,
        prices: Callable[[], PriceList | None],
        record: Callable[[Mapping[str, Any]], ExecutionRecord],
        *,
        is_bound: bool,
    ) -> None:
        super().__init__(terms, is_bound=is_bound)
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
        with self.recording(error) as ended:
            self.record = self._record(ended)


class AsyncRun(Running):
    """The same, awaited; a task that is cancelled has its run recorded as aborted.

    It is recorded to the end before a cancellation goes on, however often the task is cancelled;
    not so where it is bound to a caller's transaction, which then cannot be relied on.
    """

    def __init__(
        self,
        terms: RunTerms,
        prices: Callable[[], Awaitable[PriceList | None]],
        record: Callable[[Mapping[str, Any]], Awaitable[ExecutionRecord]],
        *,
        is_bound: bool,
    ) -> None:
        super().__init__(terms, is_bound=is_bound)
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
        with self.recording(error) as ended:
            if self._is_bound:
                # An async_scoped_session has another session, and transaction, for another task.
                self.record = await self._record(ended)
            else:
                await self._record_to_the_end(ended)

    async def _record_to_the_end(self, ended: Mapping[str, Any]) -> None:
        recording = asyncio.ensure_future(self._record(ended))
        cancelled: asyncio.CancelledError | None = None
        may_begin_again = True
        # Again and again: anyio cancels a task for as long as it goes on.
        while not recording.done():
            try:
                await asyncio.wait([recording])
            except asyncio.CancelledError as error:
                cancelled = error
            if recording.cancelled() and may_begin_again:
                # A loop that shuts down cancels every task once, also the one that records. Where
                # the run was in by then, this finds it there.
                may_begin_again = False
                recording = asyncio.ensure_future(self._record(ended))
        try:
            self.record = recording.result()
        except Exception as failure:
            if cancelled is None:
                raise
            raise cancelled from failure
        if cancelled is not None:
            raise cancelled
