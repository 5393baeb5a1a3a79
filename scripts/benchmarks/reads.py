"""What reads cost: against raw rows, against the same SQL by hand, through a reader's views."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from ledger.ddl import access
from ledger.engine import driver_of
from ledger.window import Interval
from scripts.benchmarks.by_hand import by_hand, planned_by_hand
from scripts.benchmarks.load import HEAVY, STEADY
from scripts.benchmarks.measure import Figure, interleaved, seconds
from tests.sent import Sent, sent_by_reads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    import psycopg
    from sqlalchemy import Engine

    from ledger import Ledger

_RAW = """
SELECT count(*), count(*) FILTER (WHERE http_status_code >= 400 OR error_type IS NOT NULL),
  avg(latency_ms), percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_ms),
  sum(input_tokens), sum(output_tokens), sum(cost_usd)
FROM ledger.llm_requests WHERE user_id = %s AND "timestamp" >= %s AND "timestamp" < %s"""

QUICK_MS, SLOWER_MS = 25, 40
_REPEATS = 61


def figures(ledger: Ledger, engine: Engine, end: datetime) -> Iterator[Figure]:
    """The heaviest user's week, question by question."""
    telemetry = ledger.telemetry
    at = end - timedelta(minutes=17)
    questions: dict[str, tuple[Callable[[], object], float]] = {
        "overview": (lambda: telemetry.overview(HEAVY, Interval.WEEK, at=at), QUICK_MS),
        "costs": (lambda: telemetry.daily_model_cost(HEAVY, Interval.WEEK, at=at), QUICK_MS),
        "errors": (lambda: telemetry.error_rate(HEAVY, Interval.WEEK, at=at), QUICK_MS),
        "latency by model": (
            lambda: telemetry.provider_model_latency(HEAVY, Interval.WEEK, at=at),
            SLOWER_MS,
        ),
        "time series": (lambda: telemetry.time_series(HEAVY, Interval.WEEK, at=at), SLOWER_MS),
    }
    with planned_by_hand(engine) as connection:

        def raw() -> object:
            return connection.execute(_RAW, (HEAVY, at - timedelta(days=7), at)).fetchall()

        ours, baseline = interleaved(questions["overview"][0], raw)
        yield Figure(
            name="7D overview against raw rows",
            measured=f"{baseline:.1f} ms raw, {ours:.1f} ms: {baseline / ours:.1f} times faster",
            target="5 times",
            holds=baseline >= 5 * ours,
        )
        for name, (ask, limit) in questions.items():
            asked, hand = _against_hand(ledger, ask)
            yield Figure(
                name=f"7D {name}, p50",
                measured=f"{asked:.1f} ms",
                target=f"{limit} ms",
                holds=asked <= limit,
            )
            yield Figure(
                name=f"7D {name} against the same SQL by hand",
                measured=f"{asked:.2f} against {hand:.2f} ms: {asked / hand:.2f}",
                target="1.2, or 0.5 ms more",
                holds=asked <= max(1.2 * hand, hand + 0.5),
            )


def growth(ledger: Ledger, smaller: Ledger, end: datetime, *, times: int) -> Figure:
    """The same user's same week, in a table with ever so many rows beside it."""
    at = end - timedelta(minutes=17)
    large, small = interleaved(
        lambda: ledger.telemetry.overview(STEADY, Interval.WEEK, at=at),
        lambda: smaller.telemetry.overview(STEADY, Interval.WEEK, at=at),
        repeat=101,
    )
    return Figure(
        name=f"7D overview of one user in a table {times} times as large",
        measured=f"{large:.2f} against {small:.2f} ms: {large / small:.2f}",
        target="1.2",
        holds=large <= 1.2 * small,
    )


def views(engine: Engine, end: datetime) -> Iterator[Figure]:
    """A granted reader's own query through the views against the table's."""
    role = "ledger_bench_reader"
    with engine.begin() as connection:
        connection.execute(text(f"DROP ROLE IF EXISTS {role}"))
        connection.execute(text(f"CREATE ROLE {role}"))
        access.grant(connection, role, "reader", [HEAVY])
    start = end - timedelta(hours=20)
    summed = 'SELECT count(*), sum(cost_usd) FROM {0} WHERE "timestamp" >= %s{1}'
    try:
        with by_hand(engine) as owner, by_hand(engine) as reader:
            reader.execute(f"SET SESSION AUTHORIZATION {role}")
            through = summed.format("ledger.visible_requests", "")
            direct = summed.format("ledger.llm_requests", " AND user_id = %s")
            ours, plain = interleaved(
                lambda: reader.execute(through, (start,)).fetchall(),
                lambda: owner.execute(direct, (start, HEAVY)).fetchall(),
            )
        yield Figure(
            name="a reader's day through the view against the table",
            measured=f"{ours:.2f} against {plain:.2f} ms: {ours / plain:.2f}",
            target="2, or 0.5 ms more",
            holds=ours <= max(2 * plain, plain + 0.5),
        )
    finally:
        with engine.begin() as connection:
            access.revoke(connection, role)
            connection.execute(text(f"DROP ROLE {role}"))


def _against_hand(ledger: Ledger, ask: Callable[[], object]) -> tuple[float, float]:
    """The medians of a read and of its statement by hand, in turn, in milliseconds.

    On the same connection: two backends may be on cores of which one is slower for minutes.
    """
    sent = _sent(ask)
    times: dict[str, list[float]] = {"read": [], "hand": []}
    reading = ledger.telemetry._reading  # noqa: SLF001 - whose pool has this one connection
    assert reading is not None
    for _ in range(_REPEATS):
        times["read"].append(seconds(ask))
        with reading.connect() as checked_out:
            times["hand"].append(seconds(partial(_by_hand, driver_of(checked_out), sent)))
    return median(times["read"]) * 1000, median(times["hand"]) * 1000


def _by_hand(driver: psycopg.Connection[Any], sent: Sent) -> object:
    return driver.execute(sent.statement, sent.parameters).fetchall()


def _sent(ask: Callable[[], object]) -> Sent:
    """The statement that answers, and its values, as psycopg is given them."""
    with sent_by_reads() as sent:
        ask()
    return sent[-1]
