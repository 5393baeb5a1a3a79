"""Through PgBouncer in transaction mode, where any statement may meet any session."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL

from ledger.errors import ConflictingRecord
from ledger.queries.scope import ALL_USERS
from ledger.records.report import WriteReport
from ledger.repositories.async_ledger import AsyncLedger
from ledger.repositories.ledger import Ledger
from ledger.window import HOUR, Window
from tests.books import Books, call, calls, sums
from tests.bouncer import bouncing, program
from tests.databases import Target
from tests.ledgers import NOW, books_at
from tests.reconciling import DEARER, WINDOW
from tests.servers import libpq
from tests.writers import KINDS, Kind, stop_jobs


@pytest.fixture
def bouncer(database_url: str) -> Iterator[URL]:
    """The database through a PgBouncer, whose clients all share one session."""
    pgbouncer = program()
    if pgbouncer is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    with bouncing(pgbouncer, database_url) as url:
        yield url


@pytest.fixture
def through(bouncer: URL) -> str:
    """Its URL as it is given to a ledger."""
    url = bouncer.update_query_dict({"pgbouncer": "true"})
    return url.render_as_string(hide_password=False)


@pytest.fixture
def books(through: str, database_url: str, target: Target) -> Iterator[Books]:
    """A ledger through PgBouncer; its `sql` goes straight to the server."""
    stop_jobs(database_url)
    with Ledger.connect(through) as ledger:
        yield Books(url=database_url, target=target, ledger=ledger)


def last_days(books: Books) -> Window:
    return Window(start=books.day(ago=5), end=books.now)


def test_writes_maintenance_and_reads_work(books: Books) -> None:
    sent = calls(books.day(ago=4), 500, over=timedelta(days=4))
    books.write(sent[:300])
    telemetry = books.ledger.telemetry

    # Over keys that are there: by way of a stage, a temporary table.
    repeated = telemetry.insert_transactions(sent, batch_size=100)
    assert (repeated.inserted, repeated.duplicates, repeated.rejected) == (200, 300, ())
    books.written += sent[300:]
    assert telemetry.insert_transaction(sent[0]) == sent[0].id
    with pytest.raises(ConflictingRecord):
        telemetry.insert_transaction(sent[0].model_copy(update={"latency_ms": 1}))

    assert books.ledger.maintenance.run().problems == ()
    late = call(books.day(ago=3) + timedelta(minutes=7, seconds=1), 77)
    books.write([late])
    books.ledger.maintenance.run()

    assert books.overview() == sums(books.written)
    assert books.ledger.maintenance.reconcile(last_days(books)).is_clean
    with Ledger.connect(books.url) as direct:
        for question in ("time_series", "provider_model_latency", "daily_model_cost", "error_rate"):
            window = books.everything()
            answers = [
                getattr(ledger.telemetry, question)(ALL_USERS, window)
                for ledger in (books.ledger, direct)
            ]
            assert answers[0] == answers[1]


async def test_an_awaited_ledger_works(books: Books, through: str) -> None:
    sent = calls(books.day(ago=2), 100, over=timedelta(days=2))

    async with AsyncLedger.connect(through) as ledger:
        for _ in range(3):
            await ledger.telemetry.insert_transactions(sent)
        await ledger.maintenance.run()
        # More often than psycopg executes a statement before it prepares it.
        for _ in range(8):
            overview = await ledger.telemetry.overview(ALL_USERS, books.everything())
            assert overview.requests == len(sent)


@pytest.mark.parametrize("kind", KINDS)
def test_billing_works(through: str, database_url: str, kind: Kind, tmp_path: Path) -> None:
    stop_jobs(database_url)
    with books_at(through, kind) as books, Ledger.connect(database_url) as direct:
        billing = books.ledger.billing
        sent = [books.usage(f"r{n}", created_at=NOW - n * HOUR / 9) for n in range(500)]
        assert billing.record_usages(sent[:300], batch_size=30).inserted == 300
        repeated = billing.record_usages(sent, batch_size=50)
        assert repeated == WriteReport(inserted=200, duplicates=300)
        assert billing.record_usage(sent[0]).is_duplicate
        with pytest.raises(ConflictingRecord):
            billing.record_usage(sent[0].model_copy(update={"input_tokens": 201}))

        billing.add_prices([DEARER])
        repriced = billing.reprice(WINDOW, dry_run=False)
        assert repriced.booked == sum(each.created_at >= DEARER.effective_from for each in sent)
        assert billing.reprice(WINDOW, dry_run=False).booked == 0
        assert books.ledger.maintenance.run().deltas_folded > 0

        # More often than psycopg executes a statement before it prepares it.
        for number in range(8):
            margin = billing.gross_margin(WINDOW)
            assert (margin, margin.requests) == (direct.billing.gross_margin(WINDOW), len(sent))
            rows = billing.export_usage_csv(WINDOW, to=tmp_path / f"{number}.csv")
            assert rows == len(sent) + repriced.booked
        direct.billing.export_usage_csv(WINDOW, to=tmp_path / "direct.csv")
        assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
        found = billing.reconcile(WINDOW)
        # No call is in the telemetry ledger.
        assert found.differences_found == found.calls.without_a_call.count == len(sent)


def state(client: psycopg.Connection[Any]) -> dict[str, Any]:
    """What a session keeps that another client would notice."""
    settings = client.execute(
        # PL/pgSQL's own appear once it is loaded.
        "SELECT name, setting FROM pg_settings"
        " WHERE name <> 'application_name' AND name NOT LIKE 'plpgsql.%'"
    ).fetchall()
    left = {
        "prepared statements": "SELECT name FROM pg_prepared_statements",
        "temporary tables": "SELECT relname FROM pg_class WHERE relpersistence = 't'",
        "advisory locks": "SELECT objid FROM pg_locks WHERE locktype = 'advisory'",
        "listening": "SELECT pg_listening_channels()",
    }
    found = {what: client.execute(query.encode()).fetchall() for what, query in left.items()}
    return found | {"settings": settings}


def test_another_client_finds_the_session_as_it_was(
    books: Books, bouncer: URL, through: str
) -> None:
    with psycopg.connect(libpq(bouncer), autocommit=True, prepare_threshold=None) as client:
        session = client.execute("SELECT pg_backend_pid()").fetchone()
        before = state(client)
        assert not any(found for what, found in before.items() if what != "settings")
        sent = calls(books.day(ago=2), 100, over=timedelta(days=2))
        for _ in range(8):
            books.ledger.telemetry.insert_transactions(sent)
            books.ledger.telemetry.insert_transaction(sent[0])
            books.ledger.telemetry.overview(ALL_USERS, books.everything())
        books.ledger.maintenance.run()
        books.ledger.maintenance.reconcile(last_days(books))
        with books_at(through) as billed:
            billing = billed.ledger.billing
            for _ in range(8):
                billing.record_usages([billed.usage("a"), billed.usage("b")])
                billing.record_usage(billed.usage("b"))
                billing.gross_margin(WINDOW)
                billing.export_usage_csv(WINDOW, to=BytesIO())
            billing.add_prices([DEARER])
            assert billing.reprice(WINDOW, dry_run=False).booked == 2
            billing.reconcile(WINDOW)

        assert client.execute("SELECT pg_backend_pid()").fetchone() == session
        assert state(client) == before
