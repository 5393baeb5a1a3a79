"""The sums are right at every moment, whoever writes, folds or waits meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from ledger import Ledger
from ledger.ddl import migrate
from ledger.maintenance.folding import MANY
from tests.ledgers import NOW, Books, at_once, books_at
from tests.reconciling import FOLD
from tests.recounting import (
    BINNED,
    FOLDED,
    WEEK,
    assert_sums_are_the_rows,
    recounted,
    waiting,
)
from tests.roles import roles_of
from tests.writers import sql, superuser


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    with books_at(database_url) as books:
        yield books


def test_a_row_is_in_the_sums_at_once_and_stays_when_they_are_folded(books: Books) -> None:
    for number in range(5):
        books.ledger.billing.record_usage(
            books.usage(f"r{number}", created_at=NOW - timedelta(hours=30 * number))
        )
        books.ledger.billing.record_usage(books.usage(f"u{number}", model="unknown"))
        assert_sums_are_the_rows(books)
        if number % 2:
            assert sql(books.url, FOLD)[0][0] > 0
            assert waiting(books) == 0
            assert_sums_are_the_rows(books)


def test_what_is_not_booked_is_not_summed(books: Books) -> None:
    books.ledger.billing.record_usages([books.usage("a"), books.usage("a"), books.usage("b")])
    books.ledger.billing.record_usages([books.usage("a"), books.usage("b", provider="nobody")])
    assert_sums_are_the_rows(books)


def test_eight_writers_and_a_folder_lose_and_double_nothing(books: Books) -> None:
    is_over = threading.Event()
    wrong: list[object] = []

    def write(writer: int) -> None:
        with Ledger.connect(books.url) as ledger:
            for batch in range(6):
                ledger.billing.record_usages(
                    books.usage(
                        f"{writer}-{batch}-{number}",
                        created_at=NOW - timedelta(hours=number % 40, minutes=1),
                        status=("success", "failed")[number % 2],
                    )
                    # Each its groups in another order.
                    for number in (range(80) if writer % 2 else range(79, -1, -1))
                )

    def fold() -> None:
        with superuser(books.url) as owner:
            while not is_over.is_set():
                owner.execute(FOLD.encode())

    def read() -> None:
        with Ledger.connect(books.url) as ledger, superuser(books.url) as owner:
            before = 0
            while not is_over.is_set():
                found = sum(cost.requests for cost in ledger.billing.provider_costs(WEEK))
                after = owner.execute(b"SELECT count(*) FROM ledger.token_usage_ledger").fetchone()
                assert after is not None
                if not before <= found <= after[0]:
                    wrong.append((before, found, after[0]))
                before = found

    around = [threading.Thread(target=action) for action in (fold, fold, read)]
    for thread in around:
        thread.start()
    try:
        at_once(*(lambda writer=writer: write(writer) for writer in range(8)))
    finally:
        is_over.set()
        for thread in around:
            thread.join()

    assert wrong == []
    assert recounted(books)[0] == 8 * 6 * 80
    assert_sums_are_the_rows(books)


def test_transactions_of_many_statements_in_opposite_order_do_not_wait_for_one_another(
    books: Books,
) -> None:
    """Upserts into the sums would deadlock here."""
    first, second = (books.usage("1", created_at=NOW - timedelta(hours=hours)) for hours in (1, 30))
    barrier = threading.Barrier(2, timeout=20)

    def book(prefix: str, *hours: int) -> None:
        from ledger.engine import engine  # noqa: PLC0415

        own = engine(books.url)
        try:
            with own.begin() as connection:
                bound = Ledger.bound(connection)
                for hour in hours:
                    bound.billing.record_usage(
                        books.usage(f"{prefix}{hour}", created_at=NOW - timedelta(hours=hour))
                    )
                    barrier.wait()
        finally:
            own.dispose()

    assert first.created_at != second.created_at
    at_once(lambda: book("a", 1, 30), lambda: book("b", 30, 1))
    assert recounted(books)[0] == 4
    assert_sums_are_the_rows(books)


def test_an_open_transaction_neither_stops_a_writer_nor_a_fold_and_is_in_when_it_ends(
    books: Books,
) -> None:
    from ledger.engine import engine  # noqa: PLC0415

    own = engine(books.url)
    try:
        with own.begin() as connection:
            Ledger.bound(connection).billing.record_usage(books.usage("open"))
            books.ledger.billing.record_usage(books.usage("beside"))
            assert sql(books.url, FOLD) == [(1, 1)]
            assert recounted(books)[0] == 1
            assert_sums_are_the_rows(books)
        assert recounted(books)[0] == 2
        assert_sums_are_the_rows(books)
        assert sql(books.url, FOLD) == [(1, 1)]
        assert_sums_are_the_rows(books)
    finally:
        own.dispose()


def test_two_folders_do_not_fold_the_same(books: Books) -> None:
    books.ledger.billing.record_usage(books.usage())
    with superuser(books.url) as one, one.transaction():
        assert one.execute(FOLD.encode()).fetchone() == (1, 1)
        assert sql(books.url, FOLD) == [(0, 0)]
        assert_sums_are_the_rows(books)
    assert_sums_are_the_rows(books)


def test_maintenance_folds_hours_that_are_over_and_many_deltas(books: Books) -> None:
    books.ledger.billing.record_usage(books.usage("now", created_at=NOW))
    hour_began = sql(books.url, "SELECT date_trunc('hour', now(), 'UTC')")[0][0]
    if hour_began <= NOW:
        assert books.ledger.maintenance.run().deltas_folded == 0
        assert waiting(books) == 2
    books.ledger.billing.record_usage(books.usage("old", created_at=NOW - timedelta(hours=5)))
    assert books.ledger.maintenance.run().deltas_folded == 4
    assert waiting(books) == 0

    sql(
        books.url,
        "INSERT INTO ledger.token_usage_deltas SELECT now(), id, 'm', 'success', 'pro',"
        f" {', '.join(['0'] * 13)}, '{{}}' FROM ledger.providers, generate_series(1, {MANY + 1})",
    )
    assert books.ledger.maintenance.run().deltas_folded == MANY + 1
    assert_sums_are_the_rows(books)


def test_rows_that_were_there_before_the_sums_are_in_them(books: Books) -> None:
    books.ledger.billing.record_usages(books.usage(f"r{number}") for number in range(10))
    migrate.downgrade(books.url, "0022")
    migrate.upgrade(books.url)
    assert_sums_are_the_rows(books)


def test_only_whom_it_concerns_reads_the_sums_and_nobody_writes_them(books: Books) -> None:
    books.ledger.billing.record_usage(books.usage())
    with roles_of(books.url) as roles:
        for kind in ("service", "auditor"):
            role = roles.granted(kind)
            with Ledger.connect(role.url) as ledger:
                assert ledger.billing.gross_margin(WEEK).requests == 1
            with pytest.raises(Exception, match="permission denied"):
                role.sql("DELETE FROM ledger.token_usage_deltas")
        for role in (roles.granted("reader", [books.user]), roles.granted("writer")):
            for name in (*FOLDED, *FOLDED.values(), *BINNED):
                with pytest.raises(Exception, match="permission denied"):
                    role.sql(f"SELECT FROM ledger.{name}")
