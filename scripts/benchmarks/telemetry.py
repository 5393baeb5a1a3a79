"""The telemetry ledger's figures, on every database found, printed as Markdown."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from ledger import Ledger
from ledger.ddl import access, migrate
from ledger.engine import engine as connect
from ledger.settings import Storage
from scripts.benchmarks import ingest, reads, storage
from scripts.benchmarks.load import STEADY, load
from scripts.benchmarks.measure import seconds
from tests.databases import Databases, Target, look_around, targets_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from scripts.benchmarks.measure import Figure


TIMES: Final = 10
"""How much larger the table is than one with the same window in it."""


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
    small = databases.create(target.server)
    end = datetime.now(UTC).replace(microsecond=0)
    _make(databases.url(target.server, small), target, rows // TIMES, end=end)
    name = databases.create(target.server, template=small)
    url = databases.url(target.server, name)
    engine = connect(url)
    try:
        with engine.begin() as connection:
            version = connection.scalar(text("SELECT version()"))
            stop_jobs(connection, target)
        print(str(version).partition(" on ")[0], end="\n\n")
        print("| figure | measured | target | holds |\n|---|---|---|---|")
        with Ledger.connect(databases.url(target.server, small)) as smaller:
            for figure in _figures(url, engine, target, rows, end=end, smaller=smaller):
                print(figure.row(), flush=True)
    finally:
        engine.dispose()
        databases.drop(name)
        databases.drop(small)


def _make(url: str, target: Target, rows: int, *, end: datetime) -> None:
    """The tables, and a first tenth of the rows."""
    migrate.upgrade(url, storage=target.storage, percentiles=target.percentiles)
    engine = connect(url)
    with engine.begin() as connection:
        owner = str(connection.scalar(text("SELECT current_user")))
        access.grant(connection, owner, "service")
        stop_jobs(connection, target)
    load(engine, rows, end=end, storage=target.storage, heavy=STEADY)
    with Ledger.connect(url) as ledger:
        ledger.maintenance.run()
    _vacuum(engine)
    engine.dispose()


def stop_jobs(connection: Connection, target: Target) -> None:
    """Or TimescaleDB would refresh in the middle of what is measured."""
    if target.storage is Storage.TIMESCALE:
        connection.execute(text("SELECT _timescaledb_functions.stop_background_workers()"))


def _vacuum(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _figures(  # noqa: PLR0913 - what there is to measure
    url: str, engine: Engine, target: Target, rows: int, *, end: datetime, smaller: Ledger
) -> Iterator[Figure]:
    more = rows - rows // TIMES
    with Ledger.connect(url) as ledger:
        loading = seconds(lambda: load(engine, more, end=end, storage=target.storage))
        filling = seconds(ledger.maintenance.run)
        yield storage.told("rows loaded a second, inside the server", f"{more / loading:,.0f}")
        yield storage.told("rows rolled up a second, both levels", f"{more / filling:,.0f}")
        _vacuum(engine)
        yield from reads.figures(ledger, engine, end)
        yield reads.growth(ledger, smaller, end, times=TIMES)
        yield from reads.views(engine, end)
        yield from storage.refresh(ledger, engine, target)
        yield from ingest.figures(ledger, engine, target)
        if target.storage is Storage.TIMESCALE:
            yield from storage.columnstore(engine)
