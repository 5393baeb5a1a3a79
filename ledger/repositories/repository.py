"""What every repository stands on: an engine of its own, or a connection of its caller."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
)
from sqlalchemy.orm import Session, scoped_session

from ledger.engine import translated_errors
from ledger.errors import InvalidArgument
from ledger.queries.query import Cells, Context, Query
from ledger.records.installation import Installed
from ledger.records.report import Rejected, WriteReport
from ledger.repositories import direct
from ledger.repositories.batches import batches, batches_async, checked
from ledger.repositories.binding import AsyncBindable, Bindable, joined, joined_async
from ledger.repositories.expected import ANY, Expected
from ledger.repositories.long_reads import long_read, long_read_async, require
from ledger.repositories.reader import Reader, Step
from ledger.write.commands import Plan
from ledger.write.driving import carry_out, carry_out_async, drive, drive_async
from ledger.write.tally import Tally
from ledger.write.terms import STANDARD_TERMS, Terms

Result = TypeVar("Result")

BatchPlan: TypeAlias = Callable[[Sequence[object], int, Tally], Plan[None]]
"""Of a batch, the place of its first record, and the tally in which all of it is counted."""


class Repository:
    """Asks and writes on an engine of its own, or inside a transaction of its caller.

    On an engine each call is a transaction of its own, committed at its end. Bound to a
    caller's connection or session, each call runs in a SAVEPOINT and nothing is committed.
    """

    def __init__(
        self,
        source: Engine | Bindable,
        *,
        reading: Engine | None = None,
        expected: Expected = ANY,
        terms: Terms = STANDARD_TERMS,
    ) -> None:
        """``reading`` answers the reads of an engine; a replica, say."""
        if not isinstance(source, (Engine, Connection, Session, scoped_session)):
            raise InvalidArgument(
                f"a ledger cannot be bound to {source!r}; pass a SQLAlchemy Connection or Session,"
                " or use AsyncLedger for an asynchronous one"
            )
        self._source = source
        self._reading = reading or (source if isinstance(source, Engine) else None)
        self._reader = Reader(expected)
        self._expected = expected
        self.terms = terms
        self._found: Installed | None = None

    @property
    def _is_bound(self) -> bool:
        """Whether the transaction is the caller's."""
        return not isinstance(self._source, Engine)

    def _installed(self) -> Installed:
        """How the database is installed, asked once.

        Raises SchemaNotReady where it is not, StorageMismatch where it is otherwise than the
        settings say.
        """
        if self._found is None:
            with self._transaction() as connection:
                self._found = require(connection, self._expected)
        return self._found

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A connection to write on: ours, committed at exit, or the caller's in a SAVEPOINT."""
        with translated_errors():
            if isinstance(self._source, Engine):
                with self._source.begin() as connection:
                    yield connection
            else:
                with joined(self._source) as connection:
                    yield connection

    @contextmanager
    def _long_read(self) -> Iterator[Connection]:
        """A connection for a read that lasts, planned as reads are; the caller's where bound."""
        if self._reading is not None:
            with long_read(self._reading, self._expected) as connection:
                yield connection
        else:
            with self._transaction() as connection:
                require(connection, self._expected)
                yield connection

    def perform(self, plan: Plan[Result]) -> Result:
        """Carry out a plan, each of its parts in a transaction."""
        return carry_out(plan, self._transaction)

    def _write(
        self,
        records: Iterable[object],
        batch_plan: BatchPlan,
        batch_size: int,
        on_rejected: Callable[[Rejected], object] | None,
    ) -> WriteReport:
        """Carry out a plan for each batch of records, and count what became of them."""
        tally = Tally(commits=not self._is_bound, on_rejected=on_rejected)
        first = 0
        with tally.told_on_failure():
            for batch in batches(records, checked(batch_size)):
                self.perform(batch_plan(batch, first, tally))
                first += len(batch)
        return tally.report()

    def fetch(self, ask: Callable[[Context], Query[Result]]) -> Result:
        """The answer to a question, from one statement."""
        if self._reading is not None:
            return direct.answer(self._reading, lambda: self._reader.steps(ask))
        with self._transaction() as connection:
            return drive(self._reader.steps(ask), lambda step: connection.execute(*step).all())


class AsyncRepository:
    """The same, awaited: on an asynchronous engine, connection or session."""

    def __init__(
        self,
        source: AsyncEngine | AsyncBindable,
        *,
        reading: AsyncEngine | None = None,
        expected: Expected = ANY,
        terms: Terms = STANDARD_TERMS,
    ) -> None:
        """``reading`` answers the reads of an engine; a replica, say."""
        if not isinstance(
            source, (AsyncEngine, AsyncConnection, AsyncSession, async_scoped_session)
        ):
            raise InvalidArgument(
                f"an AsyncLedger cannot be bound to {source!r}; pass a SQLAlchemy AsyncConnection"
                " or AsyncSession, or use Ledger for a synchronous one"
            )
        self._source = source
        self._reading = reading or (source if isinstance(source, AsyncEngine) else None)
        self._reader = Reader(expected)
        self._expected = expected
        self.terms = terms
        self._found: Installed | None = None

    @property
    def _is_bound(self) -> bool:
        """Whether the transaction is the caller's."""
        return not isinstance(self._source, AsyncEngine)

    async def _installed(self) -> Installed:
        """How the database is installed, asked once.

        Raises SchemaNotReady where it is not, StorageMismatch where it is otherwise than the
        settings say.
        """
        if self._found is None:
            async with self._transaction() as connection:
                self._found = await connection.run_sync(require, self._expected)
        return self._found

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection to write on: ours, committed at exit, or the caller's in a SAVEPOINT."""
        with translated_errors():
            if isinstance(self._source, AsyncEngine):
                async with self._source.begin() as connection:
                    yield connection
            else:
                async with joined_async(self._source) as connection:
                    yield connection

    @asynccontextmanager
    async def _long_read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for a read that lasts, planned as reads are; the caller's where bound."""
        if self._reading is not None:
            async with long_read_async(self._reading, self._expected) as connection:
                yield connection
        else:
            async with self._transaction() as connection:
                await connection.run_sync(require, self._expected)
                yield connection

    async def perform(self, plan: Plan[Result]) -> Result:
        """Carry out a plan, each of its parts in a transaction."""
        return await carry_out_async(plan, self._transaction)

    async def _write(
        self,
        records: Iterable[object] | AsyncIterable[object],
        batch_plan: BatchPlan,
        batch_size: int,
        on_rejected: Callable[[Rejected], object] | None,
    ) -> WriteReport:
        """Carry out a plan for each batch of records, and count what became of them."""
        tally = Tally(commits=not self._is_bound, on_rejected=on_rejected)
        first = 0
        with tally.told_on_failure():
            async for batch in batches_async(records, checked(batch_size)):
                await self.perform(batch_plan(batch, first, tally))
                first += len(batch)
        return tally.report()

    async def fetch(self, ask: Callable[[Context], Query[Result]]) -> Result:
        """The answer to a question, from one statement."""
        if self._reading is not None:
            return await direct.answer_async(self._reading, lambda: self._reader.steps(ask))
        async with self._transaction() as connection:

            async def rows(step: Step) -> Sequence[Cells]:
                return (await connection.execute(*step)).all()

            return await drive_async(self._reader.steps(ask), rows)
