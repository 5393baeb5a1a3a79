"""The telemetry ledger's writes, called or awaited, with one face for tests."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

import psycopg
from sqlalchemy import make_url

from ledger.engine import async_engine, engine
from ledger.repositories.telemetry import AsyncTelemetry, Telemetry
from tests.servers import libpq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from uuid import UUID

    from ledger.records.report import Rejected, WriteReport

Kind = Literal["called", "awaited"]
KINDS: tuple[Kind, ...] = ("called", "awaited")


class Writer(Protocol):
    """What both twins offer."""

    def insert_transaction(self, transaction: Any) -> UUID: ...
    def insert_transactions(
        self,
        transactions: Iterable[Any],
        *,
        batch_size: int = ...,
        on_rejected: Callable[[Rejected], object] | None = ...,
    ) -> WriteReport: ...


class Awaited:
    """The asynchronous ledger, each call run to its end."""

    def __init__(self, telemetry: AsyncTelemetry, runner: asyncio.Runner) -> None:
        self._telemetry, self._runner = telemetry, runner

    def insert_transaction(self, transaction: Any) -> UUID:
        return self._runner.run(self._telemetry.insert_transaction(transaction))

    def insert_transactions(self, transactions: Iterable[Any], **options: Any) -> WriteReport:
        return self._runner.run(self._telemetry.insert_transactions(transactions, **options))


@contextmanager
def writing(url: str, kind: Kind = "called") -> Iterator[Writer]:
    """A writer on an engine of its own."""
    if kind == "called":
        own = engine(url)
        try:
            yield Telemetry(own)
        finally:
            own.dispose()
    else:
        with asyncio.Runner() as runner:
            awaited = async_engine(url)
            try:
                yield Awaited(AsyncTelemetry(awaited), runner)
            finally:
                runner.run(awaited.dispose())


def superuser(url: str) -> psycopg.Connection[Any]:
    """A connection that goes round the ledger, each statement on its own."""
    return psycopg.connect(libpq(make_url(url)), autocommit=True)


def sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement that goes round the ledger."""
    with superuser(url) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description is not None else []


def count(url: str) -> int:
    """How many requests are stored."""
    return int(sql(url, "SELECT count(*) FROM ledger.llm_requests")[0][0])


def stop_jobs(url: str) -> None:
    """End the database's own jobs, which would hold on to what the test takes away."""
    if sql(url, "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"):
        sql(url, "SELECT _timescaledb_functions.stop_background_workers()")
