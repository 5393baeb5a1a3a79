"""How usage is booked in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ledger.repositories.batches import BATCH_SIZE
from ledger.write.repricing import reprice
from ledger.write.usage import Bookkeeper

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Mapping

    from ledger.records.report import Rejected, WriteReport
    from ledger.records.repricing import Repricing
    from ledger.records.usage import BookedUsage, Usage
    from ledger.repositories.repository import BatchPlan
    from ledger.window import Window
    from ledger.write.commands import Plan
    from ledger.write.terms import Terms

Result = TypeVar("Result")


class BillingWrites:
    """What books usage, called."""

    if TYPE_CHECKING:  # the repository's
        terms: Terms

        def perform(self, plan: Plan[Result]) -> Result: ...
        def _write(
            self,
            records: Iterable[object],
            batch_plan: BatchPlan,
            batch_size: int,
            on_rejected: Callable[[Rejected], object] | None,
        ) -> WriteReport: ...

    def record_usage(self, usage: Usage | Mapping[str, Any]) -> BookedUsage:
        """Book one call, exactly once, and give what it was booked at.

        The same request_id and content again is a success, and gives what it was booked at
        then. A call whose price is not known is booked as unpriced.

        Raises ConflictingRecord where the request_id is booked with other content,
        UnknownReference for a user, provider or project that the ledger does not know, and
        InvalidRecord where the usage breaks a rule or lies in the future.
        """
        return self.perform(Bookkeeper(self.terms).book_one(usage))

    def reprice(self, window: Window, *, dry_run: bool = True) -> Repricing:
        """Price the window's calls by the prices known now, and say what is different.

        With ``dry_run=False`` the differences are booked: an adjustment a call, at the present
        moment, that names the call and the new price; what was booked stays. Two runs, or two at
        once, book each difference once. Calls that waited for a price get theirs so; those of a
        stated cost keep it. A call keeps its multiplier and its credit's worth.

        Each batch is committed, on an engine of the ledger's own; after a failure run it again.
        """
        return self.perform(reprice(self.terms, window, dry_run=dry_run))

    def record_usages(
        self,
        usages: Iterable[Usage | Mapping[str, Any]],
        *,
        batch_size: int = BATCH_SIZE,
        on_rejected: Callable[[Rejected], object] | None = None,
    ) -> WriteReport:
        """Book any number of calls, batch by batch, in constant memory, each exactly once.

        On an engine of the ledger's own each batch is committed; bound to a caller's connection
        or session nothing is. Bad, conflicting and future records, and those of unknown users,
        providers and projects, are rejected, and the others booked; the report has the first
        1,000 rejections, and ``on_rejected`` is called with each, when its batch is booked.

        Raises DatabaseUnavailable, DiskFull and PermissionMissing, whose `report` says what was
        booked before; sending everything again is safe.
        """
        book = Bookkeeper(self.terms).book_batch
        return self._write(usages, book, batch_size, on_rejected)


class AsyncBillingWrites:
    """What books usage, awaited."""

    if TYPE_CHECKING:  # the repository's
        terms: Terms

        async def perform(self, plan: Plan[Result]) -> Result: ...
        async def _write(
            self,
            records: Iterable[object] | AsyncIterable[object],
            batch_plan: BatchPlan,
            batch_size: int,
            on_rejected: Callable[[Rejected], object] | None,
        ) -> WriteReport: ...

    async def record_usage(self, usage: Usage | Mapping[str, Any]) -> BookedUsage:
        """Book one call, exactly once, and give what it was booked at.

        The same request_id and content again is a success, and gives what it was booked at
        then. A call whose price is not known is booked as unpriced.

        Raises ConflictingRecord where the request_id is booked with other content,
        UnknownReference for a user, provider or project that the ledger does not know, and
        InvalidRecord where the usage breaks a rule or lies in the future.
        """
        return await self.perform(Bookkeeper(self.terms).book_one(usage))

    async def reprice(self, window: Window, *, dry_run: bool = True) -> Repricing:
        """Price the window's calls by the prices known now, and say what is different.

        With ``dry_run=False`` the differences are booked: an adjustment a call, at the present
        moment, that names the call and the new price; what was booked stays. Two runs, or two at
        once, book each difference once. Calls that waited for a price get theirs so; those of a
        stated cost keep it. A call keeps its multiplier and its credit's worth.

        Each batch is committed, on an engine of the ledger's own; after a failure run it again.
        """
        return await self.perform(reprice(self.terms, window, dry_run=dry_run))

    async def record_usages(
        self,
        usages: Iterable[Usage | Mapping[str, Any]] | AsyncIterable[Usage | Mapping[str, Any]],
        *,
        batch_size: int = BATCH_SIZE,
        on_rejected: Callable[[Rejected], object] | None = None,
    ) -> WriteReport:
        """Book any number of calls, batch by batch, in constant memory, each exactly once.

        On an engine of the ledger's own each batch is committed; bound to a caller's connection
        or session nothing is. Bad, conflicting and future records, and those of unknown users,
        providers and projects, are rejected, and the others booked; the report has the first
        1,000 rejections, and ``on_rejected`` is called with each, when its batch is booked.

        Raises DatabaseUnavailable, DiskFull and PermissionMissing, whose `report` says what was
        booked before; sending everything again is safe.
        """
        book = Bookkeeper(self.terms).book_batch
        return await self._write(usages, book, batch_size, on_rejected)
