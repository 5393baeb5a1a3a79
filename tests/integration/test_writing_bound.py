"""Writing inside the transaction of a caller, on any driver."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from ledger.errors import ConflictingRecord, InvalidArgument, InvalidRecord
from ledger.records.report import WriteReport
from ledger.records.transaction import Transaction
from ledger.repositories.telemetry import AsyncTelemetry, Telemetry
from tests.builders import transaction
from tests.writers import Awaited, Writer, count, sql, superuser

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIVERS = ("psycopg", "psycopg2", "asyncpg", "psycopg_async")


class Host:
    """A caller with a transaction of its own."""

    def __init__(self, writer: Writer, *, commit: Any, execute: Any) -> None:
        self.writer, self.commit, self.execute = writer, commit, execute


@contextmanager
def host(url: str, driver: str) -> Iterator[Host]:
    its_url = make_url(url).set(drivername=f"postgresql+{driver}")
    if driver in {"psycopg", "psycopg2"}:
        engine = create_engine(its_url)
        with Session(engine) as session:
            yield Host(
                Telemetry(session),
                commit=session.commit,
                execute=lambda statement: session.execute(text(statement)).all(),
            )
        engine.dispose()
    else:
        if driver == "asyncpg":
            its_url = its_url.set(port=None, query={"host": its_url.query["host"]})
        with asyncio.Runner() as runner:
            own = create_async_engine(its_url)
            awaited = AsyncSession(own)

            async def execute(statement: str) -> Any:
                return (await awaited.execute(text(statement))).all()

            yield Host(
                Awaited(AsyncTelemetry(awaited), runner),
                commit=lambda: runner.run(awaited.commit()),
                execute=lambda statement: runner.run(execute(statement)),
            )
            runner.run(awaited.close())
            runner.run(own.dispose())


@pytest.fixture(params=DRIVERS)
def caller(request: pytest.FixtureRequest, database_url: str) -> Iterator[Host]:
    with host(database_url, request.param) as caller:
        yield caller


def test_nothing_is_committed_before_the_caller_does(caller: Host, database_url: str) -> None:
    caller.writer.insert_transaction(transaction())
    report = caller.writer.insert_transactions([transaction() for _ in range(10)], batch_size=3)
    assert report == WriteReport(inserted=10)
    assert count(database_url) == 0
    caller.commit()
    assert count(database_url) == 11


def test_it_is_stored_as_sent(caller: Host, database_url: str) -> None:
    now = datetime.now(UTC)
    sent = [
        transaction(
            timestamp=now - timedelta(days=number),
            request_id=f"ü-{number}" if number % 2 else None,
            cost_usd=None if number % 3 else "0.123456789012",
            project_id=transaction().id if number % 2 else None,
            attributes={"a": [number, None, "é"]},
            http_status_code=200 + number,
            is_streaming=number % 2 == 0,
        )
        for number in range(20)
    ]
    caller.writer.insert_transactions(sent, batch_size=7)
    caller.commit()
    names = ", ".join(f'"{name}"' for name in Transaction.model_fields)
    rows = sql(database_url, f"SELECT {names} FROM ledger.llm_requests ORDER BY 2 DESC")
    assert [
        Transaction(**dict(zip(Transaction.model_fields, row, strict=True))) for row in rows
    ] == (sent)


def test_what_fails_leaves_the_callers_transaction_usable(caller: Host, database_url: str) -> None:
    known = transaction(timestamp=datetime.now(UTC), request_id="r")
    other = known.model_copy(update={"latency_ms": 1})
    caller.writer.insert_transaction(known)
    with pytest.raises(ConflictingRecord):
        caller.writer.insert_transaction(other)
    with pytest.raises(InvalidRecord):
        caller.writer.insert_transaction(
            Transaction.model_construct(**{**transaction().__dict__, "latency_ms": -1})
        )
    # Three batches, each of which collides and is staged, in one transaction.
    mixed = [known, other, transaction(), known, other, transaction(), transaction(), known, other]
    report = caller.writer.insert_transactions(mixed, batch_size=3)
    assert (report.inserted, report.duplicates, report.rejected_count) == (3, 3, 3)
    assert caller.execute("SELECT count(*) FROM ledger.llm_requests") == [(4,)]
    caller.commit()
    assert count(database_url) == 4


def test_after_the_callers_rollback_the_same_records_go_in(database_url: str, caller: Host) -> None:
    # Its partition, too, is undone, though this process knew it to exist.
    sent = [transaction(timestamp=datetime.now(UTC) - timedelta(days=3)) for _ in range(3)]
    caller.writer.insert_transactions(sent)
    caller.execute("SELECT 1")
    caller.writer.insert_transactions(sent)
    caller.commit()
    with superuser(database_url) as connection:
        connection.execute("DELETE FROM ledger.llm_requests")
    assert caller.writer.insert_transactions(sent).inserted == 3


def test_a_rolled_back_partition_is_made_again(database_url: str) -> None:
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    sent = [transaction(timestamp=datetime.now(UTC) - timedelta(days=3)) for _ in range(3)]
    with Session(engine) as session:
        telemetry = Telemetry(session)
        telemetry.insert_transaction(sent[0])
        session.rollback()
        telemetry.insert_transaction(sent[0])
        session.rollback()
        assert telemetry.insert_transactions(sent) == WriteReport(inserted=3)
        session.commit()
    engine.dispose()
    assert count(database_url) == 3


def test_in_autocommit_one_transaction_is_written_and_many_are_refused(database_url: str) -> None:
    engine = create_engine(
        make_url(database_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        telemetry = Telemetry(connection)
        telemetry.insert_transaction(transaction())
        with pytest.raises(InvalidArgument, match="autocommit"):
            telemetry.insert_transactions([transaction()])
    engine.dispose()
    assert count(database_url) == 1


def test_a_failure_says_that_nothing_is_committed_yet(database_url: str) -> None:
    def failing() -> Iterator[Transaction]:
        yield from (transaction() for _ in range(4))
        raise LookupError

    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    with Session(engine) as session, pytest.raises(LookupError) as error:
        Telemetry(session).insert_transactions(failing(), batch_size=2)
    engine.dispose()
    (said,) = error.value.__notes__
    assert said.startswith("Before that, 4 records of this call were written in your transaction;")
