"""What keeping the books costs: refreshing an hour, and the room that rows take."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import text

from ledger import Transaction
from ledger.settings import Storage
from scripts.benchmarks.measure import Figure, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from ledger import Ledger
    from tests.databases import Target

HOUR_ROWS = 7_000
"""What an hour holds at five million rows in thirty days."""


def told(name: str, measured: str) -> Figure:
    """A figure without a target of its own."""
    return Figure(name=name, measured=measured, target="", holds=True)


def refresh(ledger: Ledger, engine: Engine, target: Target) -> Iterator[Figure]:
    """An hour of new rows, rolled up at both levels."""
    with engine.connect() as connection:
        now = connection.scalar(text("SELECT date_trunc('hour', now() - INTERVAL '5 minutes')"))
    hour = now - timedelta(hours=1)
    users = [uuid4() for _ in range(200)]
    ledger.telemetry.insert_transactions(
        Transaction(
            user_id=users[number * number % 200],
            timestamp=hour + timedelta(milliseconds=number * 500),
            provider=f"provider-{number % 6}",
            model=f"model-{number % 24}",
            latency_ms=number % 5000,
            cost_usd="0.01",
        )
        for number in range(HOUR_ROWS)
    )
    statement = "CALL" if target.storage is Storage.TIMESCALE else "SELECT"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        took = seconds(lambda: connection.exec_driver_sql(f"{statement} ledger.refresh_metrics()"))
    yield Figure(
        name=f"an hour of {HOUR_ROWS:,} new rows rolled up",
        measured=f"{took:.2f} s",
        target="1 s",
        holds=took <= 1,
    )


def columnstore(engine: Engine) -> Iterator[Figure]:
    """The table's size before and after its chunks are kept by column."""
    size = text("SELECT hypertable_size('ledger.llm_requests')")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        before = connection.scalar(size)
        connection.execute(
            text(
                "SELECT compress_chunk(chunk, if_not_compressed => true)"
                " FROM show_chunks('ledger.llm_requests') AS chunk"
            )
        )
        after = connection.scalar(size)
    yield Figure(
        name="raw rows by column against by row",
        measured=f"{after / 1e6:,.0f} of {before / 1e6:,.0f} MB: {after / before:.3f}",
        target="0.2",
        holds=after <= 0.2 * before,
    )
