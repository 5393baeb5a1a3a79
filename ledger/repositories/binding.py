"""A caller's connection or session, whose transaction the ledger joins and never ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from ledger.engine import commits_each_statement
from ledger.errors import InvalidArgument

Bindable: TypeAlias = "Connection | Session | scoped_session[Session]"
AsyncBindable: TypeAlias = "AsyncConnection | AsyncSession | async_scoped_session[AsyncSession]"


@contextmanager
def joined(source: Bindable) -> Iterator[Connection]:
    """The caller's connection, in a SAVEPOINT of its transaction."""
    connection = source if isinstance(source, Connection) else source.connection()
    if _commits_each_statement(connection):
        yield connection
    else:
        with connection.begin_nested():
            yield connection


@asynccontextmanager
async def joined_async(source: AsyncBindable) -> AsyncIterator[AsyncConnection]:
    """The caller's asynchronous connection, in a SAVEPOINT of its transaction."""
    connection = source if isinstance(source, AsyncConnection) else await source.connection()
    if await connection.run_sync(_commits_each_statement):
        yield connection
    else:
        async with connection.begin_nested():
            yield connection


def _commits_each_statement(connection: Connection) -> bool:
    """Whether the caller's connection is in autocommit, where a SAVEPOINT is an error."""
    if connection.dialect.name != "postgresql":
        raise InvalidArgument(
            f"the ledger is on PostgreSQL; it cannot be bound to {connection.dialect.name}"
        )
    return commits_each_statement(connection)
