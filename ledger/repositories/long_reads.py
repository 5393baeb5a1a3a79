"""A connection for one long read on an engine of ours: one that answers, planned as reads are."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from ledger.engine import PLAN_TRANSACTION, async_driver_of, driver_of, translated_errors
from ledger.queries.opening import INSTALLED, installed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from ledger.records.installation import Installed
    from ledger.repositories.expected import Expected


@contextmanager
def long_read(engine: Engine, expected: Expected) -> Iterator[Connection]:
    """A connection to a database that has a ledger, the one that is expected.

    Raises SchemaNotReady, StorageMismatch, and DatabaseUnavailable.
    """
    with translated_errors(), engine.connect() as connection:
        try:
            _begin(connection, expected)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            # It had gone while nobody used it, as those beside it in the pool; SQLAlchemy gives
            # another one, which is new.
            connection.rollback()
            _begin(connection, expected)
        driver = driver_of(connection)
        try:
            yield connection
        finally:
            if driver.closed:
                connection.invalidate()


@asynccontextmanager
async def long_read_async(
    engine: AsyncEngine, expected: Expected
) -> AsyncIterator[AsyncConnection]:
    """The same, awaited."""
    with translated_errors():
        async with engine.connect() as connection:
            try:
                await connection.run_sync(_begin, expected)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                await connection.rollback()
                await connection.run_sync(_begin, expected)
            driver = await async_driver_of(connection)
            try:
                yield connection
            finally:
                if driver.closed:
                    await connection.invalidate()


def _begin(connection: Connection, expected: Expected) -> None:
    if not driver_of(connection).autocommit:
        # Behind a pooler, where the settings of a session would stay with others.
        connection.exec_driver_sql(PLAN_TRANSACTION.decode())
    require(connection, expected)


def require(connection: Connection, expected: Expected) -> Installed:
    """How the database is installed.

    Raises SchemaNotReady where it is not, StorageMismatch where it is otherwise than it should.
    """
    return expected.require(installed(connection.execute(INSTALLED).all()))
