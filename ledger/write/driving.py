"""The two shells that carry out a plan: one calls the database, one awaits it."""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from psycopg import sql
from psycopg.types.string import BytesBinaryDumper

from ledger.engine import async_driver_of, commits_each_statement, driver_of
from ledger.errors import InvalidArgument
from ledger.write.commands import Answer, Atomically, Execute, KnownDays, Load
from ledger.write.rows import COPY_TYPES, POSITION_TYPE, arrays
from ledger.write.statements import load_arrays

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from datetime import date

    import psycopg
    from sqlalchemy import Connection, CursorResult, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ledger.write.commands import Command, Plan

Asked = TypeVar("Asked")
Result = TypeVar("Result")
Cursor = TypeVar("Cursor", bound="psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]")

_known_days: WeakKeyDictionary[Engine, set[date]] = WeakKeyDictionary()


def carry_out(
    plan: Plan[Result], transaction: Callable[[], AbstractContextManager[Connection]]
) -> Result:
    """Carry out a plan, each of its parts in a transaction of its own."""

    def answer(asked: Atomically[Any]) -> object:
        with transaction() as connection:
            return drive(asked.steps, lambda command: _perform(command, connection))

    return drive(plan, answer)


async def carry_out_async(
    plan: Plan[Result], transaction: Callable[[], AbstractAsyncContextManager[AsyncConnection]]
) -> Result:
    """Carry out a plan, awaiting each of its parts."""

    async def answer(asked: Atomically[Any]) -> object:
        async with transaction() as connection:
            return await drive_async(
                asked.steps, lambda command: _perform_async(command, connection)
            )

    return await drive_async(plan, answer)


def drive(generator: Generator[Asked, Any, Result], answer: Callable[[Asked], object]) -> Result:
    try:
        asked = next(generator)
        while True:
            try:
                answered = answer(asked)
            except Exception as error:  # noqa: BLE001 - the generator decides what it means
                asked = generator.throw(error)
            else:
                asked = generator.send(answered)
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        generator.close()


async def drive_async(
    generator: Generator[Asked, Any, Result], answer: Callable[[Asked], Awaitable[object]]
) -> Result:
    try:
        asked = next(generator)
        while True:
            try:
                answered = await answer(asked)
            except Exception as error:  # noqa: BLE001 - the generator decides what it means
                asked = generator.throw(error)
            else:
                asked = generator.send(answered)
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        generator.close()


def _perform(command: Command, connection: Connection) -> object:
    match command:
        case Execute():
            return _answer(connection.execute(command.statement, command.parameters))
        case KnownDays():
            return _known_days.setdefault(connection.engine, set())
        case Load():
            require_transaction(connection)
            if connection.dialect.driver != "psycopg":
                connection.execute(load_arrays(command.table), _arrays(command))
                return None
            with (
                _copying(driver_of(connection).cursor()) as cursor,
                cursor.copy(_copy_statement(command)) as copy,
            ):
                copy.set_types(_copy_types(command))
                write = copy.write_row
                for row in _copied_rows(command):
                    write(row)
            return None


async def _perform_async(command: Command, connection: AsyncConnection) -> object:
    match command:
        case Execute():
            return _answer(await connection.execute(command.statement, command.parameters))
        case KnownDays():
            return _known_days.setdefault(connection.sync_engine, set())
        case Load():
            await connection.run_sync(require_transaction)
            if connection.dialect.driver != "psycopg":
                await connection.execute(load_arrays(command.table), _arrays(command))
                return None
            driver = await async_driver_of(connection)
            async with (
                _copying(driver.cursor()) as cursor,
                cursor.copy(_copy_statement(command)) as copy,
            ):
                copy.set_types(_copy_types(command))
                write = copy.write_row
                for row in _copied_rows(command):
                    await write(row)
            return None


def require_transaction(connection: Connection) -> None:
    """Raise InvalidArgument for a caller's connection on which nothing can be undone."""
    if commits_each_statement(connection):
        raise InvalidArgument(
            "insert_transactions needs a transaction, and this connection is in autocommit; bind"
            " the ledger to one that is not"
        )


def _answer(result: CursorResult[Any]) -> Answer:
    if result.returns_rows:
        return Answer(rows=result.all(), count=0)
    return Answer(rows=(), count=result.rowcount)


def _arrays(command: Load) -> dict[str, list[Any]]:
    return arrays(command.rows, command.positions)


def _copied_rows(command: Load) -> Iterable[tuple[Any, ...]]:
    if command.positions is None:
        return command.rows
    return map(add, command.rows, zip(command.positions))


def _copying(cursor: Cursor) -> Cursor:
    # For bytea psycopg finds its DB-API `Binary` first, which is Python: 0.3 us a value.
    cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
    return cursor


def _copy_types(command: Load) -> tuple[str, ...]:
    return COPY_TYPES if command.positions is None else (*COPY_TYPES, POSITION_TYPE)


def _copy_statement(command: Load) -> sql.Composed:
    table = command.table
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(*filter(None, (table.schema, table.name))),
        sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns),
    )
