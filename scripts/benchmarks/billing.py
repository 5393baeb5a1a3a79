"""The billing ledger's figures, on every database found, printed as Markdown."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlalchemy import text

from ledger import Ledger, Window
from ledger.ddl import migrate
from ledger.engine import driver_of
from ledger.engine import engine as connect
from ledger.maintenance.folding import MANY
from scripts.benchmarks import source
from scripts.benchmarks.billing_load import DAYS, PROVIDERS, introduce, load
from scripts.benchmarks.export import MOST, export
from scripts.benchmarks.measure import Figure, in_turns, seconds
from scripts.benchmarks.storage import told
from scripts.benchmarks.telemetry import stop_jobs
from tests.databases import Databases, Target, look_around, targets_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

QUICK_MS: Final = 5
"""Of each question to 100,000 calls."""
SMALL, LARGE = 100_000, 10_000_000
UNFOLDED: Final = MANY
_TRIGGERS: Final = ("token_usage_ledger_adds_to_sums", "token_usage_ledger_adds_to_user_sums")


def run(rows: int, names: tuple[str, ...]) -> None:
    """Measure on every target whose name begins with one of ``names``; on all where none is."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    findings = look_around()
    servers = [server for finding in findings for server in finding.servers]
    databases = Databases(migrate=migrate.upgrade)
    try:
        for target in targets_on(servers):
            if not names or target.name.startswith(names):
                _measure(databases, target, rows)
    finally:
        databases.drop_all()
        for server in servers:
            server.stop()


def _measure(databases: Databases, target: Target, rows: int) -> None:
    print(f"\n## {target}, {rows:,} calls over {DAYS} days\n")
    name = databases.create(target.server)
    url = databases.url(target.server, name)
    migrate.upgrade(url, storage=target.storage, percentiles=target.percentiles)
    engine = connect(url)
    try:
        with engine.begin() as connection:
            stop_jobs(connection, target)
            version = connection.scalar(text("SELECT version()"))
        print(str(version).partition(" on ")[0], end="\n\n")
        print("| figure | measured | target | holds |\n|---|---|---|---|")
        with Ledger.connect(url) as ledger:
            for figure in _figures(ledger, engine, rows):
                print(figure.row(), flush=True)
    finally:
        engine.dispose()
        databases.drop(name)


def _figures(ledger: Ledger, engine: Engine, rows: int) -> Iterator[Figure]:
    introduce(ledger)
    end = datetime.now(UTC).replace(microsecond=0)
    loading = seconds(lambda: load(engine, rows, end=end))
    yield told("calls loaded a second, inside the server", f"{rows / loading:,.0f}")
    folding = seconds(ledger.maintenance.run)
    yield told("deltas folded", f"in {folding:.1f} s")
    with engine.begin() as connection:
        source.make(connection)
    _vacuum(engine)
    yield from _reads(ledger, engine, end, rows, unfolded=0)
    _unfold(engine, end)
    yield from _reads(ledger, engine, end, rows, unfolded=UNFOLDED)
    ledger.maintenance.run()
    exported = timedelta(days=DAYS) * min(1, MOST / rows)
    yield from export(ledger, engine, Window(start=end - exported, end=end))
    yield from _recording(ledger, engine)


def _vacuum(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _unfold(engine: Engine, end: datetime) -> None:
    """As many deltas of the last hour as maintenance leaves where they are."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO ledger.token_usage_deltas SELECT date_trunc('hour', cast(:end AS"
                " timestamptz), 'UTC') - INTERVAL '1 hour', id, 'model-1', 'success', 'pro', 1, 0,"
                " 10, 10, 0.01, 0.02, 2, 0, 0, 0, 0, 0, 0, '{-96}' FROM ledger.providers,"
                " generate_series(1, cast(:each AS bigint))"
            ),
            {"end": end, "each": UNFOLDED // PROVIDERS},
        )


def _reads(
    ledger: Ledger, engine: Engine, end: datetime, rows: int, *, unfolded: int
) -> Iterator[Figure]:
    at = end - timedelta(minutes=17)
    month = Window(start=at - timedelta(days=30), end=at)
    billing = ledger.billing
    days = Window(start=_midnight(end) - timedelta(days=29), end=end)
    questions: dict[str, tuple[Callable[[], object], bytes, Window]] = {
        "margin KPI and the month before": (
            lambda: billing.gross_margin(month),
            source.KPI,
            month,
        ),
        "provider costs": (lambda: billing.provider_costs(month), source.PROVIDERS, month),
        "30-day trend": (lambda: billing.margin_trend(days), source.TREND, days),
    }
    with engine.connect() as connection:
        driver = driver_of(connection)
        for name, (ask, statement, window) in questions.items():
            bound = {
                "before": window.start - window.length,
                "start": window.start,
                "end": window.end,
            }

            def answer(statement: bytes = statement, bound: dict[str, datetime] = bound) -> object:
                return driver.execute(statement, bound).fetchall()

            ours, theirs = in_turns(ask, answer)
            yield _quick(name, ours, rows, unfolded)
            times = 100 if rows >= LARGE else 25
            yield Figure(
                name=f"{name} against the source's indexes{_waiting(unfolded)}",
                measured=f"{theirs:.1f} ms, {ours:.1f} ms: {theirs / ours:.0f} times faster",
                target=f"{times} times" if rows > SMALL else "",
                holds=rows <= SMALL or theirs >= times * ours,
            )
    took = _median(lambda: billing.cost_distribution(month))
    yield _quick("cost distribution", took, rows, unfolded)
    if not unfolded:
        users = _median(lambda: billing.user_costs(month))
        yield Figure(
            name="the 20 dearest users of 30 days",
            measured=f"{users:.0f} ms",
            target="300 ms",
            holds=users <= 300,  # noqa: PLR2004 - the target
        )
        one = _median(lambda: billing.gross_margin(month, user_id=UUID(int=1)))
        yield told("margin KPI of the heaviest user, and the month before", f"{one:.1f} ms")


def _quick(name: str, milliseconds: float, rows: int, unfolded: int) -> Figure:
    has_target = rows <= SMALL and not unfolded
    return Figure(
        name=name + _waiting(unfolded),
        measured=f"{milliseconds:.1f} ms",
        target=f"{QUICK_MS} ms" if has_target else "",
        holds=not has_target or milliseconds <= QUICK_MS,
    )


def _waiting(unfolded: int) -> str:
    return f", {unfolded:,} deltas unfolded" if unfolded else ""


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _median(ask: Callable[[], object]) -> float:
    for _ in range(3):
        ask()
    return median(seconds(ask) for _ in range(21)) * 1000


def _recording(ledger: Ledger, engine: Engine) -> Iterator[Figure]:
    """Batches with the triggers that append deltas, and without them, in turn."""
    moment = datetime.now(UTC)
    made = 0

    def write(size: int, batches: int) -> float:
        nonlocal made
        calls = [
            {
                "user_id": UUID(int=1 + number % 200),
                "request_id": f"bench-{made + number}",
                "created_at": moment - timedelta(seconds=number % 7200),
                "provider": f"provider-{number % PROVIDERS}",
                "model": f"model-{number % 24}",
                "vendor_cost": "0.0123",
            }
            for number in range(size * batches)
        ]
        made += len(calls)
        return len(calls) / seconds(lambda: ledger.billing.record_usages(calls, batch_size=size))

    for size, batches, share in ((100, 40, 0.7), (1_000, 10, 0.85), (5_000, 4, 0.85)):
        pairs = []
        write(size, batches)
        for _ in range(7):
            with_deltas = write(size, batches)
            _set_triggers(engine, "DISABLE")
            pairs.append((with_deltas, write(size, batches)))
            _set_triggers(engine, "ENABLE")
        ours, bare = (median(each) for each in zip(*pairs, strict=True))
        yield Figure(
            name=f"recording in batches of {size:,}, with deltas against without",
            measured=f"{ours:,.0f} against {bare:,.0f} rows/s: {ours / bare:.2f}",
            target=f"{share}",
            holds=ours >= share * bare,
        )


def _set_triggers(engine: Engine, state: str) -> None:
    with engine.begin() as connection:
        for trigger in _TRIGGERS:
            connection.execute(
                text(f"ALTER TABLE ledger.token_usage_ledger {state} TRIGGER {trigger}")
            )
