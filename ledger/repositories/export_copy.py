"""COPY ... TO STDOUT by each driver that has it: CSV from the server, as it is, to an outlet."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy.exc import DBAPIError

from ledger.engine import async_driver_of, driver_of
from ledger.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.compiler import SQLCompiler

    from ledger.queries.csv_cells import CsvExport
    from ledger.repositories.export_outlets import AsyncOutlet, Outlet

# The encoding is said, or it would be that of the session.
_COPY: Final = "COPY ({}) TO STDOUT (FORMAT csv, HEADER, ENCODING 'UTF8')"


def copy_out(connection: Connection, export: CsvExport, outlet: Outlet) -> int:
    """Copy the rows to the outlet, under a header; how many there were.

    COPY takes no parameters, so each driver writes the values into the statement, quoted as
    literals by its own means. Raises InvalidArgument for a driver that is not known here.
    """
    match connection.dialect.driver:
        case "psycopg":
            return _by_psycopg(connection, export, outlet)
        case "psycopg2":
            return _by_psycopg2(connection, export, outlet)
        case driver:
            raise _unknown(driver)


async def copy_out_async(
    connection: AsyncConnection, export: CsvExport, outlet: AsyncOutlet
) -> int:
    """The same, awaited."""
    match connection.dialect.driver:
        case "psycopg":
            return await _by_psycopg_async(connection, export, outlet)
        case "asyncpg":
            return await _by_asyncpg(connection, export, outlet)
        case driver:
            raise _unknown(driver)


def _by_psycopg(connection: Connection, export: CsvExport, outlet: Outlet) -> int:
    statement = _COPY.format(_compiled(export, connection).string).encode()
    with _as_sqlalchemys(psycopg.Error), driver_of(connection).cursor() as cursor:
        with cursor.copy(statement, export.parameters) as copy:
            for data in copy:
                if outlet.gather(data):
                    outlet.flush()
        return cursor.rowcount


async def _by_psycopg_async(
    connection: AsyncConnection, export: CsvExport, outlet: AsyncOutlet
) -> int:
    statement = _COPY.format(_compiled(export, connection).string).encode()
    driver = await async_driver_of(connection)
    with _as_sqlalchemys(psycopg.Error):
        async with driver.cursor() as cursor:
            async with cursor.copy(statement, export.parameters) as copy:
                async for data in copy:
                    if outlet.gather(data):
                        await outlet.flush()
            return cursor.rowcount


def _by_psycopg2(connection: Connection, export: CsvExport, outlet: Outlet) -> int:
    statement = _COPY.format(_compiled(export, connection).string)
    driver: Any = connection.connection.driver_connection
    kind = connection.dialect.loaded_dbapi.Error
    with _as_sqlalchemys(kind), driver.cursor() as cursor:
        try:
            cursor.copy_expert(cursor.mogrify(statement, export.parameters), outlet)
        except BaseException:
            # It leaves a COPY that the outlet refused to go on; the next statement would wait
            # until all of it has come.
            if driver.get_transaction_status() == TransactionStatus.ACTIVE:
                with suppress(kind):
                    driver.cancel()
            raise
        count: int = cursor.rowcount
        return count


async def _by_asyncpg(connection: AsyncConnection, export: CsvExport, outlet: AsyncOutlet) -> int:
    import asyncpg  # noqa: PLC0415 - the caller's, who is connected by it

    compiled = _compiled(export, connection)
    driver: Any = (await connection.get_raw_connection()).driver_connection
    stopping = _StoppedByErrors(outlet)
    with _as_sqlalchemys(asyncpg.PostgresError, asyncpg.InterfaceError):
        try:
            status: str = await driver.copy_from_query(
                compiled.string,
                *(export.parameters[name] for name in compiled.positiontup or ()),
                output=stopping.write,
                format="csv",
                header=True,
                encoding="UTF8",
            )
        except _Stopped:
            raise stopping.reason from None
    return int(status.rpartition(" ")[2])


class _Stopped(Exception):
    """What stopped an export is not an Exception."""


class _StoppedByErrors:
    """An outlet for asyncpg, which ends a COPY for an Exception, and stays in it for others."""

    def __init__(self, outlet: AsyncOutlet) -> None:
        self._outlet = outlet
        self.reason: BaseException = _Stopped()

    async def write(self, data: bytes) -> None:
        try:
            if self._outlet.gather(data):
                await self._outlet.flush()
        except (KeyboardInterrupt, SystemExit) as reason:
            self.reason = reason
            raise _Stopped from reason


def _compiled(export: CsvExport, connection: Connection | AsyncConnection) -> SQLCompiler:
    compiled: SQLCompiler = export.statement.compile(dialect=connection.dialect)
    return compiled


@contextmanager
def _as_sqlalchemys(*kinds: type[Exception]) -> Iterator[None]:
    """Raise what a driver's error would be from SQLAlchemy, as it is from every other call."""
    try:
        yield
    except kinds as error:
        raise DBAPIError.instance(None, None, error, kinds[0], hide_parameters=True) from error


def _unknown(driver: str) -> InvalidArgument:
    return InvalidArgument(
        f"rows cannot be exported by the driver {driver}; bind the ledger to a connection of"
        " psycopg, psycopg2 or asyncpg, or use Ledger.connect(url)"
    )
