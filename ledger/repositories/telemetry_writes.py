"""How transactions are written: one at a time, or any number in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ledger.repositories.batches import BATCH_SIZE, batches, batches_async, checked
from ledger.write.batch import BatchWriter
from ledger.write.driving import carry_out, carry_out_async
from ledger.write.single import insert_one
from ledger.write.tally import Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ledger.records.installation import Installed
    from ledger.records.report import Rejected, WriteReport
    from ledger.records.transaction import Transaction
    from ledger.write.terms import Terms


class TelemetryWrites:
    """What writes transactions, called."""

    if TYPE_CHECKING:  # the repository's
        terms: Terms

        @property
        def _is_bound(self) -> bool: ...
        def _installed(self) -> Installed: ...
        def _transaction(self) -> AbstractContextManager[Connection]: ...

    def insert_transaction(self, transaction: Transaction | Mapping[str, Any]) -> UUID:
        """Write one transaction and give the id under which it is stored.

        The same key and content again is a success and changes nothing. Raises
        ConflictingRecord where the key is stored with other content, InvalidRecord where the
        transaction breaks a rule or its time is not accepted.
        """
        storage = self._installed().storage
        return carry_out(
            insert_one(transaction, storage, self.terms.future_tolerance), self._transaction
        )

    def insert_transactions(
        self,
        transactions: Iterable[Transaction | Mapping[str, Any]],
        *,
        batch_size: int = BATCH_SIZE,
        on_rejected: Callable[[Rejected], object] | None = None,
    ) -> WriteReport:
        """Write any number of transactions, batch by batch, in constant memory.

        On an engine of the ledger's own each batch is committed; bound to a caller's connection
        or session nothing is. Bad, conflicting, too old and future records are rejected, and the
        others written; the report has the first 1,000 rejections, and ``on_rejected`` is called
        with each, when its batch is written.

        Raises DatabaseUnavailable, DiskFull and PermissionMissing, whose `report` says what was
        written before; sending everything again is safe.
        """
        pending = batches(transactions, checked(batch_size))
        storage = self._installed().storage
        tally = Tally(commits=not self._is_bound, on_rejected=on_rejected)
        writer = BatchWriter(storage=storage, tolerance=self.terms.future_tolerance, tally=tally)
        with tally.told_on_failure():
            for batch in pending:
                carry_out(writer.write(batch), self._transaction)
        return tally.report()


class AsyncTelemetryWrites:
    """What writes transactions, awaited."""

    if TYPE_CHECKING:  # the repository's
        terms: Terms

        @property
        def _is_bound(self) -> bool: ...
        async def _installed(self) -> Installed: ...
        def _transaction(self) -> AbstractAsyncContextManager[AsyncConnection]: ...

    async def insert_transaction(self, transaction: Transaction | Mapping[str, Any]) -> UUID:
        """Write one transaction and give the id under which it is stored.

        The same key and content again is a success and changes nothing. Raises
        ConflictingRecord where the key is stored with other content, InvalidRecord where the
        transaction breaks a rule or its time is not accepted.
        """
        storage = (await self._installed()).storage
        return await carry_out_async(
            insert_one(transaction, storage, self.terms.future_tolerance), self._transaction
        )

    async def insert_transactions(
        self,
        transactions: Iterable[Transaction | Mapping[str, Any]]
        | AsyncIterable[Transaction | Mapping[str, Any]],
        *,
        batch_size: int = BATCH_SIZE,
        on_rejected: Callable[[Rejected], object] | None = None,
    ) -> WriteReport:
        """Write any number of transactions, batch by batch, in constant memory.

        On an engine of the ledger's own each batch is committed; bound to a caller's connection
        or session nothing is. Bad, conflicting, too old and future records are rejected, and the
        others written; the report has the first 1,000 rejections, and ``on_rejected`` is called
        with each, when its batch is written.

        Raises DatabaseUnavailable, DiskFull and PermissionMissing, whose `report` says what was
        written before; sending everything again is safe.
        """
        pending = batches_async(transactions, checked(batch_size))
        storage = (await self._installed()).storage
        tally = Tally(commits=not self._is_bound, on_rejected=on_rejected)
        writer = BatchWriter(storage=storage, tolerance=self.terms.future_tolerance, tally=tally)
        with tally.told_on_failure():
            async for batch in pending:
                await carry_out_async(writer.write(batch), self._transaction)
        return tally.report()
