"""A database dumped and restored as docs/restore.md says is the same books, and goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from ledger.ddl.migrate import check
from ledger.ddl.retention import wishes
from ledger.engine import engine
from tests.books import ROLLUPS, USER, Books, Sums, call, calls, opened, sums
from tests.databases import Databases, Target
from tests.roles import roles_of
from tests.servers import libpq


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The server's own pg_dump and psql: older ones refuse a newer server."""

    folder: Path

    def dump(self, url: str, *options: str) -> bytes:
        return self._run("pg_dump", url, *options)

    def psql(self, url: str, script: bytes | str, *options: str, **variables: str) -> None:
        given = script.encode() if isinstance(script, str) else script
        self._run(
            "psql", url, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *options,
            given=given, variables=variables,
        )  # fmt: skip

    def _run(
        self,
        program: str,
        url: str,
        *options: str,
        given: bytes = b"",
        variables: dict[str, str] | None = None,
    ) -> bytes:
        run = subprocess.run(
            [self.folder / program, f"--dbname={libpq(make_url(url))}", *options],
            check=False,
            input=given,
            capture_output=True,
            env=os.environ | (variables or {}),
        )
        assert run.returncode == 0, run.stderr.decode()
        return run.stdout


@pytest.fixture
def programs(target: Target) -> Programs:
    ((folder,),) = target.server.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
    if not Path(folder, "pg_dump").exists():
        pytest.skip(f"{target.server.name} has its pg_dump in {folder}, which is not here")
    return Programs(folder=Path(folder))


@pytest.fixture
def books(database_url: str, target: Target) -> Iterator[Books]:
    """Books of a hundred days that are kept for longer than by default, with a late row."""
    with opened(database_url, target) as books:
        stop_jobs(books)
        books.accept_older_rows(timedelta(days=120))
        books.write(calls(books.day(ago=100), 40, over=timedelta(days=100)))
        books.ledger.maintenance.run()
        books.write([call(books.day(ago=50) + timedelta(minutes=9), 77)])
        yield books


def stop_jobs(books: Books) -> None:
    if books.is_timescale:
        books.sql("SELECT _timescaledb_functions.stop_background_workers()")


@contextmanager
def database(databases: Databases, target: Target, *, template: str = "template0") -> Iterator[str]:
    """The URL of another database there."""
    name = databases.create(target.server, template=template)
    yield databases.url(target.server, name)
    databases.drop(name)


@pytest.fixture
def empty_url(databases: Databases, target: Target) -> Iterator[str]:
    with database(databases, target) as url:
        yield url


@pytest.fixture
def migrated_url(databases: Databases, target: Target) -> Iterator[str]:
    with database(databases, target, template=databases.template(target)) as url:
        yield url


def assert_same_books_that_go_on(restored_url: str, books: Books) -> None:
    """What a restored database must be: as declared, with every sum, and as alive."""
    assert problems(restored_url) == problems(books.url) == []
    assert kept(restored_url) == kept(books.url)
    with opened(restored_url, books.target) as restored:
        stop_jobs(restored)
        assert raw_rows(restored) == raw_rows(books)
        for each in (restored, books):
            # A restored scheduler may have done so already.
            each.ledger.maintenance.run()
        assert rollups(restored) == rollups(books)
        assert restored.overview() == sums(books.written)
        assert restored.ledger.maintenance.reconcile(restored.everything()).is_clean

        late = call(restored.day(ago=30) + timedelta(minutes=11), 99)
        restored.write([late])
        restored.ledger.maintenance.run()
        assert restored.overview() == sums([*books.written, late])
        assert restored.ledger.maintenance.reconcile(restored.everything()).is_clean


def problems(url: str) -> list[str]:
    return [str(found) for found in check(url) if not found.is_warning]


def kept(url: str) -> dict[str, timedelta | None]:
    opened = engine(url)
    with opened.connect() as connection:
        found = wishes(connection)
    opened.dispose()
    return found


def raw_rows(books: Books) -> list[object]:
    return list(
        books.sql("SELECT r::text FROM ledger.llm_requests r ORDER BY user_id, timestamp, id")
    )


def rollups(books: Books) -> list[Sums | object]:
    """What the rollups hold and show, and since when raw rows are kept."""
    levels = [read(level) for level in ROLLUPS for read in (books.rolled_up, books.shown)]
    return [*levels, books.sql("SELECT raw_from::text FROM ledger.rollup_progress")]


@pytest.mark.storage("postgres")
def test_a_whole_dump_of_plain_postgresql(books: Books, programs: Programs, empty_url: str) -> None:
    with roles_of(books.url) as roles:
        reader = roles.granted("reader", [USER])
        programs.psql(empty_url, programs.dump(books.url), "--single-transaction")

        there = make_url(reader.url).set(database=make_url(empty_url).database)
        programs.psql(
            there.render_as_string(hide_password=False),
            "SELECT 1 / count(*) FROM ledger.visible_requests;",
        )
        with roles_of(empty_url) as restored:
            assert restored.own("SELECT * FROM ledger.role_scopes") == roles.own(
                "SELECT * FROM ledger.role_scopes"
            )
            restored.own(f"DROP OWNED BY {reader.name}")
    assert_same_books_that_go_on(empty_url, books)


@pytest.mark.storage("timescale")
def test_a_whole_dump_of_timescaledb(books: Books, programs: Programs, empty_url: str) -> None:
    dump = programs.dump(books.url)
    before = "CREATE EXTENSION timescaledb; SELECT timescaledb_pre_restore();"
    programs.psql(empty_url, before)
    programs.psql(empty_url, dump)
    programs.psql(empty_url, "SELECT timescaledb_post_restore(); ANALYZE;")

    assert_same_books_that_go_on(empty_url, books)


SEEDED = ("ledger.installation", "ledger.rollup_progress")


@pytest.mark.storage("postgres")
def test_the_rows_alone_of_plain_postgresql(
    books: Books, programs: Programs, migrated_url: str
) -> None:
    programs.psql(migrated_url, f"TRUNCATE {', '.join(SEEDED)};")
    seeds = [f"--table={table}" for table in SEEDED]
    programs.psql(migrated_url, programs.dump(books.url, "--data-only", *seeds))
    days = ", ".join(f"'{day}'" for day in kept_days(books))
    programs.psql(migrated_url, f"SELECT ledger.ensure_days(ARRAY[{days}]::date[]);")
    rows = programs.dump(
        books.url,
        "--data-only",
        "--schema=ledger",
        "--load-via-partition-root",
        "--exclude-table=ledger.alembic_version",
        *(f"--exclude-table={table}" for table in SEEDED),
    )
    programs.psql(
        migrated_url,
        rows,
        "--single-transaction",
        PGOPTIONS="-c session_replication_role=replica",
    )

    assert_same_books_that_go_on(migrated_url, books)


def kept_days(books: Books) -> list[date]:
    rows = books.sql(
        "SELECT to_date(right(relid::regclass::text, 8), 'YYYYMMDD')"
        " FROM pg_partition_tree('ledger.llm_requests') WHERE isleaf ORDER BY 1"
    )
    return [day for (day,) in rows]
