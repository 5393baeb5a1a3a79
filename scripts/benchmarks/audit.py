"""The execution ledger's figures, on every database found, printed as Markdown."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from ledger import Ledger
from ledger.ddl import migrate
from ledger.engine import engine as connect
from scripts.benchmarks import audit_proving, audit_reading, audit_writers, audit_writing
from scripts.benchmarks.audit_load import DAYS, introduce, load
from scripts.benchmarks.measure import Figure, seconds
from scripts.benchmarks.storage import told
from scripts.benchmarks.telemetry import stop_jobs
from tests.databases import Databases, Target, look_around, targets_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


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
    print(f"\n## {target}, {rows:,} runs over {DAYS} days\n")
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
            for figure in _figures(ledger, engine, url, rows):
                print(figure.row(), flush=True)
    finally:
        engine.dispose()
        databases.drop(name)


def _figures(ledger: Ledger, engine: Engine, url: str, rows: int) -> Iterator[Figure]:
    introduce(ledger)
    # What is recorded later, to be measured, ended later.
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
    loading = seconds(lambda: load(url, rows, end=end))
    yield told("runs made and appended a second, by two processes", f"{rows / loading:,.0f}")
    yield from _sizes(engine)
    yield from audit_writing.figures(engine)
    yield from audit_writers.figures(url)
    folding = seconds(ledger.maintenance.run)
    yield told("deltas folded", f"in {folding:.1f} s")
    _vacuum(engine)
    yield from audit_proving.figures(ledger, engine)
    yield from audit_reading.figures(ledger, engine, rows)


def _sizes(engine: Engine) -> Iterator[Figure]:
    with engine.connect() as connection:
        payloads, table, indexes = connection.execute(
            text(
                "SELECT avg(octet_length(input::text) + coalesce(octet_length(output::text), 0)"
                " + octet_length(cost_json::text) + octet_length(execution_trace_json::text)),"
                " pg_table_size('ledger.execution_ledger'),"
                " pg_indexes_size('ledger.execution_ledger') FROM ("
                " SELECT * FROM ledger.execution_ledger LIMIT 10000) AS sample"
            )
        ).one()
    yield told("bytes of JSON a run", f"{payloads:,.0f}")
    yield told("table and indexes", f"{table / 1e6:,.0f} and {indexes / 1e6:,.0f} MB")


def _vacuum(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
