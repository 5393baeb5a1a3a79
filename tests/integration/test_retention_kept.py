"""A retention that was wished outlives a downgrade, as long as the ledger stays installed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger.ddl.migrate import check, downgrade, upgrade
from ledger.ddl.retention import wishes
from ledger.engine import engine
from tests.books import ROLLUPS, Books, call, opened, sums
from tests.catalogues import sql, stop_jobs
from tests.databases import Target

pytestmark = pytest.mark.every_target

DAY = timedelta(days=1)
KEPT = {"raw": 120 * DAY, "1m": 150 * DAY, "1h": 800 * DAY}


def wish(books: Books) -> None:
    for level in ("1h", "1m", "raw"):
        books.keep(level, KEPT[level])


def kept(url: str) -> dict[str, timedelta | None]:
    looking = engine(url)
    with looking.begin() as connection:
        found = wishes(connection)
    looking.dispose()
    return found


def policies(url: str) -> list[timedelta]:
    rows = sql(
        url,
        "SELECT (config ->> 'drop_after')::interval FROM timescaledb_information.jobs"
        " WHERE proc_name = 'policy_retention' ORDER BY 1",
    )
    return [keep for (keep,) in rows]


@pytest.mark.parametrize("revision", ["0009", "0006", "0001"])
def test_a_wish_is_kept_by_a_downgrade_and_carried_out_by_the_next_upgrade(
    database_url: str, target: Target, revision: str
) -> None:
    with opened(database_url, target) as books:
        wish(books)

    downgrade(database_url, revision)
    assert target.storage == "postgres" or policies(database_url) == []
    upgrade(database_url)

    stop_jobs(database_url)
    assert kept(database_url) == KEPT
    assert target.storage == "postgres" or policies(database_url) == sorted(KEPT.values())
    assert [str(found) for found in check(database_url) if not found.is_warning] == []


def test_what_was_rolled_up_of_rows_that_are_gone_outlives_it_too(
    database_url: str, target: Target
) -> None:
    with opened(database_url, target) as books:
        books.write(call(books.day(ago=ago), ago) for ago in (60, 50, 3, 2))
        books.ledger.maintenance.run()
        books.keep("raw", 20 * DAY)
        books.apply_retention()
        assert len(books.raw_days()) == 2

        downgrade(books.url, "0009")
        if books.is_timescale:
            sql(books.url, "CALL ledger.refresh_metrics()")
        else:
            sql(books.url, "SELECT ledger.refresh_metrics()")
        upgrade(books.url)
        stop_jobs(books.url)
        books.ledger.maintenance.run()

        assert kept(books.url)["raw"] == 20 * DAY
        assert [books.shown(level) for level in ROLLUPS] == 2 * [sums(books.written)]


def test_at_the_base_it_is_forgotten_with_all_else(database_url: str, target: Target) -> None:
    with opened(database_url, target) as books:
        wish(books)

    downgrade(database_url, "base")
    upgrade(database_url, storage=target.storage, percentiles=target.percentiles)

    stop_jobs(database_url)
    assert kept(database_url) == {"raw": 90 * DAY, "1m": 90 * DAY, "1h": 730 * DAY}
