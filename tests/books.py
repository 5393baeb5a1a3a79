"""A ledger whose rows are of any age, and what its books must add up to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import make_url

from ledger import ALL_USERS, Ledger, Storage, Transaction, Window
from ledger.ddl.retention import set_retention
from ledger.engine import engine
from ledger.models.telemetry import HOUR_ROLLUP, MINUTE_ROLLUP, materialized
from ledger.window import HOUR, floor
from tests.builders import transaction
from tests.databases import Target
from tests.servers import libpq

USER = UUID("5e0b7c3a-0000-4000-8000-000000000001")
OTHER_USER = UUID("5e0b7c3a-0000-4000-8000-000000000002")
ROLLUPS = (MINUTE_ROLLUP, HOUR_ROLLUP)
PATIENCE_SECONDS = 60.0
SOMEBODY_WAITS = (
    "EXISTS (SELECT FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock')"
)
SETTLE = timedelta(minutes=5)
"""How long an ended hour is left open for stragglers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What can be added up without error."""

    requests: int = 0
    latency_sum_ms: int = 0
    input_tokens: int = 0
    cost_usd: Decimal = Decimal(0)


def sums(transactions: Iterable[Transaction]) -> Sums:
    """Added up the naive way."""
    rows = list(transactions)
    return Sums(
        requests=len(rows),
        latency_sum_ms=sum(row.latency_ms for row in rows),
        input_tokens=sum(row.input_tokens for row in rows),
        cost_usd=sum((row.cost_usd or Decimal(0) for row in rows), Decimal(0)),
    )


def call(timestamp: datetime, number: int = 0, **values: Any) -> Transaction:
    """One call at that time; another number is another call."""
    return transaction(
        **{
            "user_id": USER if number % 3 else OTHER_USER,
            "timestamp": timestamp,
            "model": f"gpt-{number % 2}",
            "latency_ms": 100 + number,
            "input_tokens": number,
            "cost_usd": None if number % 5 == 0 else Decimal(number) / 1000,
            **values,
        }
    )


def calls(start: datetime, count: int, *, over: timedelta) -> list[Transaction]:
    """That many calls, spread evenly."""
    return [call(start + over * number / count, number) for number in range(count)]


@dataclass(kw_only=True)
class Books:
    """A ledger, all that was written into it, and a superuser's way round it."""

    url: str
    target: Target
    ledger: Ledger
    written: list[Transaction] = field(default_factory=list)

    @property
    def is_timescale(self) -> bool:
        return self.target.storage == "timescale"

    @property
    def now(self) -> datetime:
        moment: datetime = self.sql("SELECT now()")[0][0]
        return moment.astimezone(UTC)

    @property
    def last_closed_hour(self) -> datetime:
        """The start of the last hour that a refresh rolls up."""
        return floor(self.now - SETTLE, HOUR) - HOUR

    def day(self, ago: int) -> datetime:
        """The start of the UTC day that was so many days ago."""
        return floor(self.now, timedelta(days=1)) - timedelta(days=ago)

    def everything(self) -> Window:
        """All the time that rows can be of, on whole hours, so that rollups answer exactly."""
        return Window(start=self.day(ago=400), end=floor(self.now, HOUR) + HOUR)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(libpq(make_url(self.url)), autocommit=True)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def wait_until(self, condition: str) -> None:
        """Ask again and again until the condition holds; what the sessions do, if it never does."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.sql(f"SELECT 1 WHERE {condition}"):
            if time.monotonic() > deadline:
                sessions = self.sql(
                    "SELECT pid, state, wait_event_type, wait_event, query FROM pg_stat_activity"
                    " WHERE datname = current_database() AND backend_type = 'client backend'"
                )
                raise AssertionError(f"{condition} never held; {sessions}")

    def write(self, transactions: Iterable[Transaction]) -> None:
        rows = list(transactions)
        report = self.ledger.telemetry.insert_transactions(rows)
        assert (report.inserted, report.rejected) == (len(rows), ())
        self.written += rows

    def keep(self, level: str, keep: timedelta) -> None:
        changing = engine(self.url)
        try:
            with changing.begin() as connection:
                set_retention(connection, level, keep)
        finally:
            changing.dispose()

    def accept_older_rows(self, raw: timedelta) -> None:
        """Keep raw rows and minutes that long, as if it had always been so."""
        self.keep("1m", raw)
        self.keep("raw", raw)
        self.sql("UPDATE ledger.rollup_progress SET raw_from = '-infinity'")

    def apply_retention(self) -> None:
        """Have the storage do it now, with all that goes before."""
        self.ledger.maintenance.run()
        if self.is_timescale:
            for (number,) in self.sql(
                "SELECT job_id FROM timescaledb_information.jobs"
                " WHERE proc_name = 'policy_retention' ORDER BY job_id DESC"
            ):
                self.sql(f"CALL run_job({number})")

    def raw_days(self) -> list[date]:
        rows = self.sql(
            "SELECT DISTINCT (\"timestamp\" AT TIME ZONE 'UTC')::date AS day"
            " FROM ledger.llm_requests ORDER BY day"
        )
        return [day for (day,) in rows]

    def rolled_up(self, level: str, window: Window | None = None) -> Sums:
        """What the rollup holds; on timescale, whose tail is live, that is what it shows."""
        return self._sums(materialized(level, Storage(self.target.storage)), window)

    def shown(self, level: str) -> Sums:
        """What the SQL user's rollup shows."""
        return self._sums(level, None)

    def overview(self) -> Sums:
        """What the repository says about everything."""
        found = self.ledger.telemetry.overview(ALL_USERS, self.everything())
        latency = round((found.average_latency_ms or 0) * found.requests)
        return Sums(
            requests=found.requests,
            latency_sum_ms=latency,
            input_tokens=found.input_tokens,
            cost_usd=found.cost_usd,
        )

    def _sums(self, relation: str, window: Window | None) -> Sums:
        asked = window or Window(start=self.day(ago=4000), end=self.now + timedelta(days=1))
        row = self.sql(
            "SELECT coalesce(sum(requests), 0), coalesce(sum(latency_sum_ms), 0),"
            " coalesce(sum(input_tokens), 0), coalesce(sum(cost_usd), 0)"
            f" FROM ledger.{relation}"
            f" WHERE bucket >= '{asked.start.isoformat()}' AND bucket < '{asked.end.isoformat()}'"
        )[0]
        return Sums(
            requests=int(row[0]),
            latency_sum_ms=int(row[1]),
            input_tokens=int(row[2]),
            cost_usd=row[3],
        )


@contextmanager
def opened(url: str, target: Target) -> Iterator[Books]:
    """The books of that database."""
    with Ledger.connect(url) as ledger:
        yield Books(url=url, target=target, ledger=ledger)
