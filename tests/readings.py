"""Random books for the reads, and one way to ask both a Ledger and an AsyncLedger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
from hypothesis import strategies as st
from sqlalchemy import make_url

from ledger import AsyncLedger, Ledger, Transaction, Window
from ledger.settings import Storage
from ledger.window import floor
from tests.servers import libpq

Ask = Callable[..., Any]

MODELS = (("openai", "gpt-5"), ("openai", "gpt-5-mini"), ("anthropic", "claude-opus-4"))
DAY = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)

LANDMARKS = [
    timedelta(hours=hours)
    # Midnights in UTC, Berlin (22 and 23), Kolkata, Kathmandu, and Lord Howe (13 and 13:30).
    for hours in (0, 13, 13.5, 18, 18.25, 18.5, 22, 23)
]
BESIDE = [timedelta(minutes=minutes) for minutes in (-31, -10, 0, 0, 10, 31)] + [
    -MILLISECOND,
    MILLISECOND,
]


@dataclass(kw_only=True)
class Database:
    """A database under test, and a superuser's way round the ledger."""

    url: str
    storage: Storage
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(libpq(make_url(self.url)), autocommit=True)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def stop_jobs(self) -> None:
        """Or a refresh of the database's own stands in the way of the test's."""
        if self.storage is Storage.TIMESCALE:
            self.sql("SELECT _timescaledb_functions.stop_background_workers()")

    def refresh(self) -> None:
        """Roll up every hour that has ended, without whatever else maintenance does."""
        if self.storage is Storage.TIMESCALE:
            self.sql("CALL ledger.refresh_metrics()")
        else:
            while self.sql("SELECT ledger.refresh_metrics(10000)")[0][0] != 0:
                pass

    def forget_raw_before(self, raw_from: datetime) -> None:
        """What retention comes to: the rollups stay, the rows go, and the books say so."""
        moment = f"'{raw_from.isoformat()}'::timestamptz"
        self.sql(f"UPDATE ledger.rollup_progress SET raw_from = {moment}")
        self.sql(f'DELETE FROM ledger.llm_requests WHERE "timestamp" < {moment}')


@st.composite
def moments(draw: st.DrawFn, *, now: datetime, longest_ago: timedelta) -> datetime:
    """A moment of the past: any, or, so that rows and windows meet, next to a landmark."""
    if draw(st.booleans()):
        return now - draw(st.timedeltas(timedelta(0), longest_ago))
    day = floor(now, DAY) - DAY * draw(st.sampled_from([0, 1, 4, longest_ago // DAY - 1]))
    return day + draw(st.sampled_from(LANDMARKS)) + draw(st.sampled_from(BESIDE))


@st.composite
def transactions(
    draw: st.DrawFn, *, now: datetime, longest_ago: timedelta, user_id: UUID
) -> Transaction:
    """A call of the past, of any kind."""
    provider, model = draw(st.sampled_from(MODELS))
    output_tokens = draw(st.integers(0, 10_000))
    return Transaction(
        user_id=user_id,
        timestamp=min(draw(moments(now=now, longest_ago=longest_ago)), now),
        provider=provider,
        model=model,
        latency_ms=draw(st.integers(10, 3_600_000) | st.sampled_from([10, 500, 60_000])),
        input_tokens=draw(st.integers(0, 2_147_483_647)),
        output_tokens=output_tokens,
        reasoning_tokens=draw(st.integers(0, output_tokens)),
        cost_usd=draw(st.none() | st.decimals(0, 10_000, places=12).map(Decimal)),
        http_status_code=draw(st.sampled_from([None, 200, 399, 400, 429, 500])),
        error_type=draw(st.sampled_from([None, None, "timeout"])),
    )


@st.composite
def windows(draw: st.DrawFn, *, now: datetime, longest_ago: timedelta) -> Window:
    """A window of any length, often a short one."""
    start, end = sorted(draw(moments(now=now, longest_ago=longest_ago)) for _ in range(2))
    if draw(st.integers(0, 3)) == 0:
        end = start + timedelta(minutes=draw(st.integers(0, 180)))
    return Window(start=start, end=end)


@contextmanager
def asking(kind: str, url: str) -> Iterator[Ask]:
    """Asks a telemetry ledger for whatever method is named, waiting where need be."""
    if kind == "sync":
        with Ledger.connect(url) as ledger:
            yield lambda name, *args, **values: getattr(ledger.telemetry, name)(*args, **values)
        return
    with asyncio.Runner() as runner:
        opened = AsyncLedger.connect(url)

        async def awaited(answer: Awaitable[object]) -> object:
            return await answer

        yield lambda name, *args, **values: runner.run(
            awaited(getattr(opened.telemetry, name)(*args, **values))
        )
        runner.run(opened.close())


def someone() -> UUID:
    """A user of whom no other test knows."""
    return uuid4()


def write(ask: Ask, rows: list[Transaction]) -> None:
    report = ask("insert_transactions", rows)
    assert (report.inserted, report.rejected_count) == (len(rows), 0)


def scattered(user: UUID, now: datetime, *, count: int) -> list[Transaction]:
    """Calls of the last seven days, most of them recent, each of its own kind."""
    dice = Random(count)
    return [
        Transaction(
            user_id=user,
            timestamp=_some_time(dice, now),
            provider=provider,
            model=model,
            latency_ms=int(10 * 1000 ** dice.random()),
            input_tokens=dice.randrange(100_000),
            output_tokens=dice.randrange(100, 100_000),
            reasoning_tokens=dice.randrange(100),
            cost_usd=dice.choice([None, Decimal(dice.randrange(10**12)).scaleb(-12)]),
            http_status_code=dice.choice([None, 200, 200, 200, 429, 503]),
        )
        for provider, model in dice.choices(MODELS, k=count)
    ]


def _some_time(dice: Random, now: datetime) -> datetime:
    if dice.random() < 0.5:
        return now - timedelta(days=6.9) * dice.random() ** 2
    day = floor(now, DAY) - DAY * dice.randrange(7)
    return min(day + dice.choice(LANDMARKS) + dice.choice(BESIDE), now)
