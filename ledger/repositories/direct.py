"""Reads on connections of our own, by psycopg itself.

SQLAlchemy builds and compiles a statement, once for each shape; to execute it there as well
would take as long as the cheapest reads do (0.3 ms of 3).
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from sqlalchemy.exc import DBAPIError

from ledger.engine import PLAN_TRANSACTION, async_driver_of, driver_of, translated_errors
from ledger.write.driving import drive, drive_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection, Dialect, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from ledger.queries.query import AnySelect, Cells
    from ledger.repositories.reader import Step, Steps

Result = TypeVar("Result")

_PING: Final = b""
_MOST_IN_POOL: Final = 15
"""SQLAlchemy's five, and the ten that may be beside them."""


def answer(engine: Engine, read: Callable[[], Steps[Result]]) -> Result:
    """What the steps of a read come to; again from the start where the connection had gone.

    A read changes nothing, and is safe to repeat.
    """
    with translated_errors(), _as_sqlalchemys(), engine.connect() as connection:
        try:
            return _answer(connection, read())
        except psycopg.Error:
            if not driver_of(connection).closed:
                raise
            _renew(connection)
        try:
            return _answer(connection, read())
        finally:
            if driver_of(connection).closed:
                connection.invalidate()


async def answer_async(engine: AsyncEngine, read: Callable[[], Steps[Result]]) -> Result:
    """The same, awaited."""
    with translated_errors(), _as_sqlalchemys():
        async with engine.connect() as connection:
            try:
                return await _answer_async(connection, read())
            except psycopg.Error:
                if not (await async_driver_of(connection)).closed:
                    raise
                await _renew_async(connection)
            try:
                return await _answer_async(connection, read())
            finally:
                if (await async_driver_of(connection)).closed:
                    await connection.invalidate()


@contextmanager
def _as_sqlalchemys() -> Iterator[None]:
    """What a driver's error would be from SQLAlchemy, as it is from every other call."""
    try:
        yield
    except psycopg.Error as error:
        raise DBAPIError.instance(None, None, error, psycopg.Error, hide_parameters=True) from error


def _answer(connection: Connection, steps: Steps[Result]) -> Result:
    driver = driver_of(connection)
    if not driver.autocommit:
        driver.execute(PLAN_TRANSACTION)
    return drive(
        steps, lambda step: driver.execute(*_compiled(step, connection.dialect)).fetchall()
    )


async def _answer_async(connection: AsyncConnection, steps: Steps[Result]) -> Result:
    driver = await async_driver_of(connection)
    if not driver.autocommit:
        await driver.execute(PLAN_TRANSACTION)

    async def rows(step: Step) -> list[Cells]:
        cursor = await driver.execute(*_compiled(step, connection.dialect))
        return await cursor.fetchall()

    return await drive_async(steps, rows)


def _renew(connection: Connection) -> None:
    """Take others from the pool until one answers, as all of them are as old."""
    for _ in range(_MOST_IN_POOL):
        connection.invalidate()
        with suppress(psycopg.OperationalError):
            driver_of(connection).execute(_PING)
            return


async def _renew_async(connection: AsyncConnection) -> None:
    for _ in range(_MOST_IN_POOL):
        await connection.invalidate()
        driver = await async_driver_of(connection)
        with suppress(psycopg.OperationalError):
            await driver.execute(_PING)
            return


def _compiled(step: Step, dialect: Dialect) -> tuple[bytes, Mapping[str, Any]]:
    statement, parameters = step
    written, constants = _written(statement, dialect)
    return written, {**constants, **parameters}


@lru_cache(maxsize=1024)
def _written(statement: AnySelect, dialect: Dialect) -> tuple[bytes, Mapping[str, Any]]:
    compiled = statement.compile(dialect=dialect)
    # Bytes: a text of psycopg's has to be a literal, as a guard against SQL put together.
    return compiled.string.encode(), compiled.params
