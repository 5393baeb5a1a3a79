"""How transactions are written: one at a time, or any number in batches."""

from __future__ import annotations

from collections.abc import AsyncIterable
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ledger.errors import InvalidArgument
from ledger.settings import Settings
from ledger.write.batch import BatchWriter
from ledger.write.driving import carry_out, carry_out_async
from ledger.write.single import insert_one
from ledger.write.tally import Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ledger.records.installation import Installed
    from ledger.records.report import Rejected, WriteReport
    from ledger.records.transaction import Transaction

BATCH_SIZE: Final = 5_000
_TOLERANCE: Final[timedelta] = Settings.model_fields["future_tolerance"].default


class TelemetryWrites:
    """What writes transactions, called."""

    if TYPE_CHECKING:  # the repository's

        @property
        def _is_bound(self) -> bool: ...
        def _installed(self) -> Installed: ...
        def _transaction(self) -> AbstractContextManager[Connection]: ...

    _future_tolerance: timedelta = _TOLERANCE
    """How far ahead of the database's clock a record may be."""

    def insert_transaction(self, transaction: Transaction | Mapping[str, Any]) -> UUID:
        """Write one transaction and give the id under which it is stored.

        The same key and content again is a success and changes nothing. Raises
        ConflictingRecord where the key is stored with other content, InvalidRecord where the
        transaction breaks a rule or its time is not accepted.
        """
        storage = self._installed().storage
        return carry_out(
            insert_one(transaction, storage, self._future_tolerance), self._transaction
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
        batches = _batches(transactions, _checked(batch_size))
        storage = self._installed().storage
        tally = Tally(commits=not self._is_bound, on_rejected=on_rejected)
        writer = BatchWriter(storage=storage, tolerance=self._future_tolerance, tally=tally)
        with tally.told_on_failure():
            for batch in batches:
                carry_out(writer.write(batch), self._transaction)
        return tally.report()


class AsyncTelemetryWrites:
    """What writes transactions, awaited."""

    if TYPE_CHECKING:  # the repository's

        @property
        def _is_bound(self) -> bool: ...
        async def _installed(self) -> Installed: ...
        def _transaction(self) -> AbstractAsyncContextManager[AsyncConnection]: ...

    _future_tolerance: timedelta = _TOLERANCE
    """How far ahead of the database's clock a record may be."""

    async def insert_transaction(self, transaction: Transaction | Mapping[str, Any]) -> UUID:
        """Write one transaction and give the id under which it is stored.

        The same key and content again is a success and changes nothing. Raises
        ConflictingRecord where the key is stored with other content, InvalidRecord where the
        transaction breaks a rule or its time is not accepted.
        """
        storage = (await self._installed()).storage
        return await carry_out_async(
            insert_one(transaction, storage, self._future_tolerance), self._transaction
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
        batches = _batches_async(transactions, _checked(batch_size))
        storage = (await self._installed()).storage
        tally = Tally(commits=not self._is_bound, on_rejected=on_rejected)
        writer = BatchWriter(storage=storage, tolerance=self._future_tolerance, tally=tally)
        with tally.told_on_failure():
            async for batch in batches:
                await carry_out_async(writer.write(batch), self._transaction)
        return tally.report()


def _checked(batch_size: int) -> int:
    if batch_size < 1:
        raise InvalidArgument(f"batch_size {batch_size}: a batch has at least one record")
    return batch_size


def _batches(records: Iterable[object], size: int) -> Iterator[list[object]]:
    remaining = iter(records)
    while batch := list(islice(remaining, size)):
        yield batch


async def _batches_async(
    records: Iterable[object] | AsyncIterable[object], size: int
) -> AsyncIterator[list[object]]:
    if not isinstance(records, AsyncIterable):
        for batch in _batches(records, size):
            yield batch
        return
    batch = []
    async for record in records:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
