"""What writing costs: against psycopg's own COPY, and what indexes and partitions add."""

from __future__ import annotations

import operator
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy.dialects import postgresql

from ledger import Transaction
from ledger.models.telemetry import LLMRequest
from scripts.benchmarks.by_hand import by_hand
from scripts.benchmarks.measure import Figure, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Engine

    from ledger import Ledger
    from tests.databases import Target

    _Given = Callable[[list[Transaction]], list[Any]]

ROWS, BATCH, ROUNDS = 50_000, 5_000, 5
PRELOADED = 1_000_000

_COLUMNS = [column.name for column in LLMRequest.__table__.columns]
_TYPES = {
    "timestamp(3) with time zone": "timestamptz",
    "numeric(24, 12)": "numeric",
    "integer": "int4",
    "smallint": "int2",
    "boolean": "bool",
}
_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's
_values = operator.attrgetter(*_COLUMNS)

FULL = (
    "(user_id)",
    "(provider, model)",
    "(category)",
    "(http_status_code)",
    '("timestamp")',
)
"""The source's list, an index each."""


def figures(ledger: Ledger, engine: Engine, target: Target) -> Iterator[Figure]:
    """Rows a second in batches of 5,000, as ratios; the medians of rounds taken in turn."""
    calls = _Calls()
    with by_hand(engine) as connection:
        for name, shape in (("plain", ""), ("full", "full")):
            _like(connection, f"bench_{name}", full=bool(shape))
        insert = ledger.telemetry.insert_transactions
        # What each way is given is made before its time is taken.
        ways: dict[str, tuple[_Given, Callable[[Any], object]]] = {
            "raw": (_tuples, lambda rows: _copy(connection, "ledger.llm_requests", rows)),
            "dicts": (_mappings, lambda rows: insert(rows, batch_size=BATCH)),
            "transactions": (list, lambda rows: insert(rows, batch_size=BATCH)),
            "plain": (_tuples, lambda rows: _copy(connection, "bench_plain", rows)),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, (given, write) in ways.items():
                rows = given(calls.draw(ROWS))
                times[way].append(seconds(partial(write, rows)))
        yield _lean_against_full(connection, calls)
        for name in ("plain", "full"):
            connection.execute(f"DROP TABLE bench_{name}")
    rate = {way: ROWS / median(took) for way, took in times.items()}
    yield from (
        _ratio("insert_transactions of dicts against raw COPY", rate["dicts"], rate["raw"], 0.4),
        _ratio(
            "insert_transactions of Transactions against raw COPY",
            rate["transactions"],
            rate["raw"],
            0.55,
        ),
        _ratio(
            f"raw COPY into {target.storage}'s table against a plain one",
            rate["raw"],
            rate["plain"],
            0.8,
        ),
    )


def _lean_against_full(connection: psycopg.Connection[Any], calls: _Calls) -> Figure:
    """From a table without indexes, into preloaded ones, inside the server.

    Through COPY the client is the slower, and into empty tables an index costs next to nothing.
    """
    connection.execute("CREATE TABLE bench_staged (LIKE ledger.llm_requests)")
    for name in ("plain", "full"):
        connection.execute(f"TRUNCATE bench_{name}")
        connection.execute(
            f"INSERT INTO bench_{name} SELECT * FROM ledger.llm_requests"  # noqa: S608  two names
            f" LIMIT {PRELOADED}"
        )
    times: dict[str, list[float]] = {"plain": [], "full": []}
    for _ in range(ROUNDS):
        connection.execute("TRUNCATE bench_staged")
        _copy(connection, "bench_staged", _tuples(calls.draw(ROWS)))
        for name, took in times.items():
            insert = f"INSERT INTO bench_{name} SELECT * FROM bench_staged"  # noqa: S608  two names
            took.append(seconds(partial(connection.execute, insert)))
    connection.execute("DROP TABLE bench_staged")
    lean, full = (ROWS / median(took) for took in times.values())
    return _ratio("the lean indexes against the full list", lean, full, 1.25)


def _ratio(name: str, ours: float, baseline: float, target: float) -> Figure:
    return Figure(
        name=name,
        measured=f"{ours:,.0f} against {baseline:,.0f} rows/s: {ours / baseline:.2f}",
        target=f"{target}",
        holds=ours >= target * baseline,
    )


class _Calls:
    """Constructed calls, each time later ones, so that every round appends."""

    def __init__(self) -> None:
        self._at = datetime.now(UTC) - timedelta(hours=20)

    def draw(self, rows: int) -> list[Transaction]:
        begun, self._at = self._at, self._at + timedelta(milliseconds=20 * rows)
        return [
            Transaction(
                user_id=UUID(int=2 + number * number % 200),
                timestamp=begun + timedelta(milliseconds=20 * number),
                provider=f"provider-{number % 6}",
                model=f"model-{number % 24}",
                operation="chat",
                category="support" if number % 5 == 0 else None,
                latency_ms=number % 5000,
                input_tokens=number % 3000,
                output_tokens=number % 700,
                cost_usd="0.0123",
                http_status_code=429 if number % 41 == 0 else 200,
            )
            for number in range(rows)
        ]


def _mappings(rows: list[Transaction]) -> list[dict[str, Any]]:
    return [row.model_dump(exclude={"id"}, exclude_defaults=True) for row in rows]


def _tuples(rows: list[Transaction]) -> list[tuple[Any, ...]]:
    return [(*_values(row)[:-1], Jsonb(row.attributes)) for row in rows]


def _copy(
    connection: psycopg.Connection[Any], table: str, tuples: Sequence[tuple[Any, ...]]
) -> None:
    """Tuples in the table's order by binary COPY, a commit a batch: the least that must be done."""
    for first in range(0, len(tuples), BATCH):
        _copy_batch(connection, table, tuples[first : first + BATCH])


def _copy_batch(
    connection: psycopg.Connection[Any], table: str, tuples: Sequence[tuple[Any, ...]]
) -> None:
    names = ", ".join(f'"{name}"' for name in _COLUMNS)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT binary)") as copy,
    ):
        copy.set_types(_column_types())
        for row in tuples:
            copy.write_row(row)


def _column_types() -> list[str]:
    names = (
        str(column.type.compile(_POSTGRESQL)).lower() for column in LLMRequest.__table__.columns
    )
    return [_TYPES.get(name, name) for name in names]


def _like(connection: psycopg.Connection[Any], name: str, *, full: bool) -> None:
    """An ordinary table as llm_requests, with the lean indexes or the source's."""
    connection.execute(f"DROP TABLE IF EXISTS {name}")
    indexes = "EXCLUDING INDEXES" if full else ""
    connection.execute(f"CREATE TABLE {name} (LIKE ledger.llm_requests INCLUDING ALL {indexes})")
    if full:
        connection.execute(f'ALTER TABLE {name} ADD PRIMARY KEY (user_id, "timestamp", id)')
        for columns in FULL:
            connection.execute(f"CREATE INDEX ON {name} {columns}")
