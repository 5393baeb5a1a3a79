"""The telemetry ledger's figures, on every database found, printed as Markdown."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import text

from ledger import Ledger
from ledger.ddl import access, migrate
from ledger.engine import engine as connect
from ledger.settings import Storage
from scripts.benchmarks import ingest, reads, storage
from scripts.benchmarks.load import load
from scripts.benchmarks.measure import seconds
from tests.databases import Databases, Target, look_around, targets_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from scripts.benchmarks.measure import Figure


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
    print(f"\n## {target}, {rows:,} rows\n")
    name = databases.create(target.server)
    url = databases.url(target.server, name)
    migrate.upgrade(url, storage=target.storage, percentiles=target.percentiles)
    engine = connect(url)
    try:
        with engine.begin() as connection:
            version = connection.scalar(text("SELECT version()"))
            owner = str(connection.scalar(text("SELECT current_user")))
            access.grant(connection, owner, "service")
            if target.storage is Storage.TIMESCALE:
                # Its jobs would refresh in the middle of what is measured.
                connection.execute(text("SELECT _timescaledb_functions.stop_background_workers()"))
        print(str(version).partition(" on ")[0], end="\n\n")
        print("| figure | measured | target | holds |\n|---|---|---|---|")
        for figure in _figures(url, engine, target, rows):
            print(figure.row(), flush=True)
    finally:
        engine.dispose()
        databases.drop(name)


def _figures(url: str, engine: Engine, target: Target, rows: int) -> Iterator[Figure]:
    end = datetime.now(UTC).replace(microsecond=0)
    with Ledger.connect(url) as ledger:
        loading = seconds(lambda: load(engine, rows, end=end, storage=target.storage))
        filling = seconds(ledger.maintenance.run)
        yield storage.told("rows loaded a second, inside the server", f"{rows / loading:,.0f}")
        yield storage.told("rows rolled up a second, both levels", f"{rows / filling:,.0f}")
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        yield from reads.figures(ledger, engine, end)
        yield from reads.views(engine, end)
        yield from storage.refresh(ledger, engine, target)
        yield from ingest.figures(ledger, engine, target)
        if target.storage is Storage.TIMESCALE:
            yield from storage.columnstore(engine)
