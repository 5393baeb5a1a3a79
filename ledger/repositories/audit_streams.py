"""How runs are streamed: from a cursor on the server, some rows at a time."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.util import greenlet_spawn

from ledger.engine import driver_of, translated_errors
from ledger.errors import InvalidArgument
from ledger.queries.execution_export import FIRST_ROWS, execution_stream, rows_after
from ledger.queries.execution_filters import EVERYTHING, ExecutionFilter
from ledger.records.audit import ExecutionRecord
from ledger.repositories.binding import joined
from ledger.repositories.long_reads import long_read, require

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from ledger.queries.execution_export import ExecutionStream
    from ledger.queries.query import AnyRow
    from ledger.repositories.binding import AsyncBindable, Bindable
    from ledger.repositories.expected import Expected

    Pieces: TypeAlias = Generator[Sequence[AnyRow], None, None]

_UNCACHED: Final = {"compiled_cache": None}
"""Statements that name a cursor are never compiled again; a caller's would make room for them."""


class AuditStreams:
    """What streams runs, called."""

    if TYPE_CHECKING:  # the repository's
        _source: Engine | Bindable
        _reading: Engine | None
        _expected: Expected

    def stream_executions(
        self,
        filter: ExecutionFilter = EVERYTHING,  # noqa: A002 - what it is
    ) -> Generator[ExecutionRecord, None, None]:
        """The runs that match, one by one in constant memory, oldest first, then by id.

        They are those that were there when the first was asked for. Until the generator has
        ended or is closed, a cursor is open, and on an engine of the ledger's own a connection
        with a transaction. It is closed by ``close()``, at the end of ``contextlib.closing``, or
        when nobody has the generator any more.

        Bound to a caller's connection or session it reads in that transaction, which may be used
        meanwhile, and commits nothing; rows are fetched in a SAVEPOINT. Where the connection is
        in autocommit, the server keeps a copy of the rows until the end.

        Raises InvalidArgument at once for what is no filter, and while iterating where the
        caller has ended the transaction; while iterating PermissionMissing, SchemaNotReady and
        DatabaseUnavailable.
        """
        return self._streamed(execution_stream(filter))

    def _streamed(self, stream: ExecutionStream) -> Generator[ExecutionRecord, None, None]:
        pieces = _pieces(self._from(), self._expected, stream)
        try:
            for rows in pieces:
                for row in rows:
                    yield ExecutionRecord.of(row._asdict())
        finally:
            _leave(pieces)

    def _from(self) -> Engine | Connection:
        source = self._reading or self._source
        if isinstance(source, (Engine, Connection)):
            return source
        with translated_errors():
            return source.connection()


class AsyncAuditStreams:
    """What streams runs, awaited."""

    if TYPE_CHECKING:  # the repository's
        _source: AsyncEngine | AsyncBindable
        _reading: AsyncEngine | None
        _expected: Expected

    def stream_executions(
        self,
        filter: ExecutionFilter = EVERYTHING,  # noqa: A002 - what it is
    ) -> AsyncGenerator[ExecutionRecord, None]:
        """The runs that match, one by one in constant memory, oldest first, then by id.

        As `Audit.stream_executions`, for ``async for``. Left early, it is closed by
        ``aclose()`` or at the end of ``contextlib.aclosing``; otherwise by the loop, some time
        after nobody has the generator any more.
        """
        return self._streamed(execution_stream(filter))

    async def _streamed(self, stream: ExecutionStream) -> AsyncGenerator[ExecutionRecord, None]:
        # The same pieces, awaited by SQLAlchemy. No asynchronous generator is within this one: a
        # loop that ends would close both at once, and neither can then close the other.
        pieces = _pieces(await self._from(), self._expected, stream)
        try:
            while (rows := await greenlet_spawn(next, pieces, None)) is not None:
                for row in rows:
                    yield ExecutionRecord.of(row._asdict())
        finally:
            # Also of a task that is cancelled: a ROLLBACK that is broken off blocks a connection.
            await asyncio.shield(asyncio.ensure_future(greenlet_spawn(_leave, pieces)))

    async def _from(self) -> Engine | Connection:
        source = self._reading or self._source
        if isinstance(source, AsyncEngine):
            return source.sync_engine
        with translated_errors():
            bound = source if isinstance(source, AsyncConnection) else await source.connection()
            return await bound.run_sync(lambda connection: connection)


def _pieces(source: Engine | Connection, expected: Expected, stream: ExecutionStream) -> Pieces:
    if isinstance(source, Connection):
        with closing(_Within(source, expected, stream)) as within:
            yield from _fetched(within.fetch)
    else:
        with long_read(source, expected) as connection:
            if driver_of(connection).autocommit:
                # A cursor needs a transaction. It ends as the connection goes back to its pool.
                connection.exec_driver_sql("BEGIN")
            _declare(connection, stream, is_held=False)
            yield from _fetched(lambda wanted: _fetch(connection, stream, wanted))


def _leave(pieces: Pieces) -> None:
    """Let go of what a stream holds that is left early.

    Where its connection was lost it holds nothing, which is no news to who wants no more of it.
    """
    with suppress(Exception):
        pieces.close()


def _fetched(fetch: Callable[[int], Sequence[AnyRow]]) -> Pieces:
    wanted = FIRST_ROWS
    while rows := fetch(wanted):
        yield rows
        if len(rows) < wanted:
            break
        wanted = rows_after(wanted, rows)


class _Within:
    """A cursor in the transaction of a caller, who may use it meanwhile, and end it.

    No SAVEPOINT stays open between two rows: the caller, or another stream, may have begun
    others in the meantime, which end in another order.
    """

    def __init__(self, connection: Connection, expected: Expected, stream: ExecutionStream) -> None:
        self._connection, self._stream = connection, stream
        with translated_errors(), joined(connection):
            require(connection, expected)
            self._transaction = connection.get_transaction()
            # In autocommit there is no SAVEPOINT, and no transaction that a cursor could live in.
            self._is_held = not connection.in_nested_transaction()
            _declare(connection, stream, is_held=self._is_held)

    def fetch(self, wanted: int) -> Sequence[AnyRow]:
        if not self._goes_on:
            raise InvalidArgument(
                "the transaction of this stream has ended; end the stream first, or stream on"
                " connections of the ledger's own, by Ledger.connect(url)"
            )
        with translated_errors(), joined(self._connection):
            return _fetch(self._connection, self._stream, wanted)

    def close(self) -> None:
        # What cannot be closed has gone, with a SAVEPOINT of the caller's or the connection.
        with suppress(Exception):
            if self._goes_on and not self._is_busy:
                with joined(self._connection):
                    self._connection.execute(self._stream.closed, execution_options=_UNCACHED)

    @property
    def _goes_on(self) -> bool:
        has_transaction = self._transaction is not None and self._transaction.is_active
        return not self._connection.closed and (self._is_held or has_transaction)

    @property
    def _is_busy(self) -> bool:
        # This is then collected as garbage amid a statement, for which psycopg would let it wait,
        # and that for this. The end of the transaction closes the cursor.
        lock = getattr(self._connection.connection.driver_connection, "lock", None)
        return lock is not None and lock.locked()


def _declare(connection: Connection, stream: ExecutionStream, *, is_held: bool) -> None:
    connection.execute(
        stream.declared(is_held=is_held), stream.parameters, execution_options=_UNCACHED
    )


def _fetch(connection: Connection, stream: ExecutionStream, wanted: int) -> Sequence[AnyRow]:
    return connection.execute(stream.next_rows(wanted), execution_options=_UNCACHED).all()
