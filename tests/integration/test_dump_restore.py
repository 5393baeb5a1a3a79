"""A database dumped and restored as docs/restore.md says is the same books, and goes on."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import pytest
from sqlalchemy import make_url

from ledger import Ledger
from ledger.ddl.migrate import check
from ledger.ddl.retention import wishes
from ledger.engine import engine
from ledger.records.checkpoint import Checkpoint
from ledger.window import HOUR, Window
from tests.audits import PROJECT, execution, introduce
from tests.books import ROLLUPS, USER, Books, Sums, call, calls, opened, sums
from tests.databases import Databases, Target
from tests.ledgers import NOW, books_at
from tests.reconciling import DEARER, FOLD, USAGE, WINDOW, book, reconciled, refund
from tests.roles import Role, roles_of
from tests.servers import libpq
from tests.writers import sql

GUIDE = Path(__file__).parents[2] / "docs" / "restore.md"


@pytest.fixture
def programs(target: Target) -> Path:
    """The folder of the server's own pg_dump and psql: older ones refuse a newer server."""
    ((folder,),) = target.server.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
    if not Path(folder, "pg_dump").exists():
        pytest.skip(f"{target.server.name} has its pg_dump in {folder}, which is not here")
    return Path(folder)


def follow(chapter: str, *, source: str, copy: str, programs: Path) -> None:
    """Run the guide's commands of that chapter on these databases."""
    (commands,) = (
        text for text in GUIDE.read_text().split("\n## ") if text.startswith(chapter + "\n")
    )
    blocks = map(dedent, re.findall(r"^ *```sh\n(.*?)```", commands, re.DOTALL | re.MULTILINE))
    script = re.sub(r"^createdb .*$", "", "".join(blocks), flags=re.MULTILINE)
    script = re.sub(r" (source|copy)\b", r' "$\1"', script)
    databases = {"source": libpq(make_url(source)), "copy": libpq(make_url(copy))}
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | databases | {"PATH": f"{programs}:{os.environ['PATH']}"},
    )
    assert run.returncode == 0, run.stderr


@pytest.fixture
def books(database_url: str, target: Target) -> Iterator[Books]:
    """Books of a hundred days that are kept for longer than by default, with a late row.

    And bills of all kinds, of whose sums some are folded and some wait.
    """
    with opened(database_url, target) as books:
        stop_jobs(books)
        books.accept_older_rows(timedelta(days=120))
        books.write(calls(books.day(ago=100), 10, over=timedelta(days=100)))
        bill(books, "a", "b", "c")
        assert books.ledger.maintenance.run().deltas_folded > 0
        books.write([call(books.day(ago=50) + timedelta(minutes=9), 77)])
        books.ledger.billing.add_prices([DEARER])
        assert books.ledger.billing.reprice(WINDOW, dry_run=False).booked == 3
        with books_at(books.url) as billing:
            refund(billing, "a")
        bill(books, "d", "e")
        introduce(books.ledger)
        books.ledger.audit.record_executions(execution(f"run {n}") for n in range(5))
        books.ledger.audit.erase_payload("run 3", "a request")
        assert books.sql("SELECT ledger.fold_execution_deltas()") != [(0,)]
        books.ledger.audit.record_executions(execution(f"run {n}") for n in range(5, 8))
        yield books


def bill(books: Books, *request_ids: str) -> None:
    """Calls of some hours ago, in both ledgers."""
    with books_at(books.url) as billing:
        usages = [
            billing.usage(request_id, created_at=NOW - HOUR * (3 + number))
            for number, request_id in enumerate(request_ids)
        ]
        assert billing.ledger.billing.record_usages(usages).inserted == len(usages)
    books.write(
        call(
            usage.created_at,
            user_id=usage.user_id,
            request_id=usage.request_id,
            provider=usage.provider,
            model=usage.model,
        )
        for usage in usages
    )


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
        assert billed(restored) == billed(books)
        for each in (restored, books):
            # A restored scheduler may have done so already.
            each.ledger.maintenance.run()
        assert rollups(restored) == rollups(books)
        assert restored.overview() == sums(books.written)

        late = call(restored.day(ago=30) + timedelta(minutes=11), 99)
        restored.write([late])
        restored.ledger.maintenance.run()
        assert restored.overview() == sums([*books.written, late])
        with_late_rows = Window(start=restored.day(ago=51), end=restored.day(ago=29))
        assert restored.ledger.maintenance.reconcile(with_late_rows).is_clean
    assert_bills_that_go_on(restored_url)
    assert_runs_that_go_on(restored_url, books.ledger.audit.checkpoint())


def assert_runs_that_go_on(restored_url: str, taken: Checkpoint) -> None:
    """What was run verifies, also against the source's checkpoint, and the chain is extended."""
    with Ledger.connect(restored_url) as ledger:
        for rows in (8, 9):
            found = ledger.audit.verify_all(checkpoint=taken)
            assert found.is_intact, found
            assert (found.projects[0].rows, found.projects[0].erased) == (rows, 1)
            assert ledger.audit.project_execution_statistics(PROJECT).total_executions == rows
            ledger.audit.record_execution(execution("one more"))
    for change in ("UPDATE {} SET agent_id = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"):
        with pytest.raises(Exception, match="its rows are added and never changed"):
            sql(restored_url, change.format("ledger.execution_ledger"))


def assert_bills_that_go_on(restored_url: str) -> None:
    """What is billed is clean before and after more is, and nobody changes it."""
    with books_at(restored_url) as billing:
        found = reconciled(billing)
        assert (found.is_clean, found.charges.corrections) == (True, 4)
        assert billing.ledger.billing.reprice(WINDOW, dry_run=False).booked == 0
        book(billing, "f")
        sql(restored_url, FOLD)
        assert reconciled(billing).is_clean
    for change in ("UPDATE {} SET vendor_cost = 0", "DELETE FROM {}", "TRUNCATE {} CASCADE"):
        with pytest.raises(Exception, match="its rows are added and never changed"):
            sql(restored_url, change.format(USAGE))


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


def billed(books: Books) -> dict[str, list[tuple[str]]]:
    """All that is billed and was run, by what, to whom, and the sums of it, folded and not."""
    tables = books.sql(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'ledger' AND tablename ~"
        " '^(token|execution|users|tiers|providers|projects|model_prices)'"
    )
    rows = {
        name: books.sql(f"SELECT t::text FROM ledger.{name} t ORDER BY 1") for (name,) in tables
    }
    assert all(rows.values())
    return rows


def rollups(books: Books) -> list[Sums | object]:
    """What the rollups hold and show, and since when raw rows are kept."""
    levels = [read(level) for level in ROLLUPS for read in (books.rolled_up, books.shown)]
    return [*levels, books.sql("SELECT raw_from::text FROM ledger.rollup_progress")]


@pytest.mark.storage("postgres")
def test_everything_of_plain_postgresql(books: Books, programs: Path, empty_url: str) -> None:
    with roles_of(books.url) as roles:
        reader = roles.granted("reader", [USER])

        follow("Everything, plain PostgreSQL", source=books.url, copy=empty_url, programs=programs)

        with roles_of(empty_url) as restored:
            assert restored.scopes() == roles.scopes()
            there = Role(name=reader.name, url=named(reader.url, like=empty_url))
            visible = "SELECT count(*) FROM ledger.visible_requests"
            assert there.sql(visible) == reader.sql(visible) != [(0,)]
            restored.revoke(reader.name)
    assert_same_books_that_go_on(empty_url, books)


@pytest.mark.storage("postgres")
def test_an_archive_of_the_rows_alone_verifies(
    books: Books, programs: Path, migrated_url: str, tmp_path: Path
) -> None:
    """By pg_restore, as docs/restore.md loads what pg_dump writes as SQL."""
    archive = tmp_path / "runs.dump"
    only = [f"--table=ledger.{name}" for name in ("tiers", "users", "projects", "execution_*")]
    for program, url, options in (
        ("pg_dump", books.url, ["--format=custom", f"--file={archive}", "--data-only", *only]),
        ("pg_restore", migrated_url, ["--data-only", "--exit-on-error", str(archive)]),
    ):
        subprocess.run(
            [programs / program, *options, f"--dbname={libpq(make_url(url))}"],
            check=True,
            env=os.environ | {"PGOPTIONS": "-c session_replication_role=replica"},
        )

    assert problems(migrated_url) == []
    assert_runs_that_go_on(migrated_url, books.ledger.audit.checkpoint())


def named(url: str, *, like: str) -> str:
    """The URL with the other's database."""
    return make_url(url).set(database=make_url(like).database).render_as_string(hide_password=False)


@pytest.mark.storage("timescale")
def test_everything_of_timescaledb(books: Books, programs: Path, empty_url: str) -> None:
    follow("Everything, TimescaleDB", source=books.url, copy=empty_url, programs=programs)

    assert_same_books_that_go_on(empty_url, books)


@pytest.mark.storage("postgres")
def test_the_rows_alone_of_plain_postgresql(
    books: Books, programs: Path, migrated_url: str
) -> None:
    chapter = "The rows alone, plain PostgreSQL"
    follow(chapter, source=books.url, copy=migrated_url, programs=programs)

    assert_same_books_that_go_on(migrated_url, books)


@pytest.mark.storage("timescale")
def test_the_rows_alone_of_timescaledb(books: Books, programs: Path, migrated_url: str) -> None:
    with opened(migrated_url, books.target) as copy:
        stop_jobs(copy)
        copy.accept_older_rows(timedelta(days=120))

    chapter = "The rows alone, TimescaleDB"
    follow(chapter, source=books.url, copy=migrated_url, programs=programs)

    assert_same_books_that_go_on(migrated_url, books)
