"""Every read agrees with an oracle, for any rows and any window, on every database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import ALL_USERS, Interval, Transaction, Window
from ledger.models.latency import RELATIVE_ERROR
from ledger.window import HOUR, floor, utc
from tests import oracle
from tests.databases import Target
from tests.readings import (
    MODELS,
    Ask,
    Database,
    asking,
    scattered,
    someone,
    transactions,
    windows,
    write,
)

pytestmark = pytest.mark.every_target

LONGEST_AGO = timedelta(days=9)
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Kathmandu")
WIDTHS = (
    timedelta(minutes=7),
    timedelta(minutes=90),
    HOUR,
    timedelta(hours=6),
    timedelta(days=1),
)

some = settings(
    max_examples=15,
    deadline=None,
    # The database is the test's own, and every example has a user of its own in it.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def database(database_url: str, target: Target) -> Database:
    database = Database(url=database_url, storage=target.storage)
    database.stop_jobs()
    return database


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, database: Database) -> Iterator[Ask]:
    with asking(request.param, database.url) as ask:
        yield ask


@some
@given(data=st.data())
def test_reads_agree_with_the_oracle_for_any_rows_and_window(
    data: st.DataObject, database: Database, ask: Ask
) -> None:
    user = someone()
    made = transactions(now=database.now, longest_ago=LONGEST_AGO, user_id=user)
    rolled_up = data.draw(st.lists(made, max_size=30), label="rolled up")
    late = data.draw(st.lists(made, max_size=8), label="late")
    write(ask, rolled_up)
    database.refresh()
    write(ask, late)
    if database.storage == "timescale" or data.draw(st.booleans(), label="refresh again"):
        database.refresh()

    rows = [*rolled_up, *late]
    for _ in range(4):
        window = data.draw(windows(now=database.now, longest_ago=LONGEST_AGO), label="window")
        provider, model = data.draw(st.sampled_from([(None, None), ("openai", None), MODELS[0]]))
        chosen = [
            row for row in rows if provider in (None, row.provider) and model in (None, row.model)
        ]
        width = data.draw(st.sampled_from(WIDTHS), label="width")
        timezone = data.draw(st.sampled_from(ZONES), label="zone")
        filters = {"provider": provider, "model": model}

        overview = ask("overview", user, window, **filters)
        assert (overview.window, overview.is_exact) == (window, True)
        oracle.assert_overview(overview, chosen)
        series = ask("time_series", user, window, bucket=width, **filters)
        oracle.assert_time_series(series, chosen, window, width, series.percentile_error)
        latencies = ask("provider_model_latency", user, window, **filters)
        oracle.assert_latencies(latencies, chosen, window, latencies.percentile_error)
        costs = ask("daily_model_cost", user, window, timezone=timezone, **filters)
        assert list(costs) == oracle.daily_model_costs(chosen, window, timezone)
        rates = ask("error_rate", user, window, **filters)
        assert list(rates) == oracle.error_rates(chosen, window)


def test_edges_older_than_the_raw_rows_fall_to_the_hour_and_the_answer_says_so(
    database: Database, ask: Ask
) -> None:
    user = someone()
    rows = scattered(user, database.now, count=200)
    write(ask, rows)
    database.refresh()
    raw_from = floor(database.now - timedelta(days=4), HOUR)
    database.forget_raw_before(raw_from)

    @some
    @given(
        window=windows(now=database.now, longest_ago=LONGEST_AGO),
        timezone=st.sampled_from(ZONES),
    )
    def check(window: Window, timezone: str) -> None:
        whole = widened(window, raw_from)
        overview = ask("overview", user, window)
        assert (overview.window, overview.is_exact) == (whole, whole == window)
        oracle.assert_overview(overview, rows)
        series = ask("time_series", user, window, bucket=HOUR)
        assert (series.window, series.is_exact) == (whole, whole == window)
        oracle.assert_time_series(series, rows, whole, HOUR, series.percentile_error)
        costs = ask("daily_model_cost", user, window, timezone=timezone)
        assert costs.window == whole
        assert list(costs) == oracle.daily_model_costs(rows, whole, timezone, raw_from=raw_from)
        if costs.is_exact:
            assert list(costs) == oracle.daily_model_costs(rows, window, timezone)

    check()


def test_a_named_interval_ends_at_the_databases_clock_unless_told(
    database: Database, ask: Ask
) -> None:
    user = someone()
    rows = scattered(user, database.now, count=60)
    write(ask, rows)
    database.refresh()

    at = database.now - timedelta(minutes=17)
    for interval, moment in product(Interval, (at, None)):
        overview = ask("overview", user, interval.value, at=moment)
        assert overview.window.length == interval.length
        assert overview.window.end == utc(at) if moment else overview.window.end > database.now
        oracle.assert_overview(overview, rows)
        series = ask("time_series", user, interval, at=moment)
        oracle.assert_time_series(
            series, rows, series.window, interval.bucket, series.percentile_error
        )


def test_what_was_just_written_is_seen(ask: Ask) -> None:
    user = someone()
    write(ask, [Transaction(user_id=user, provider="openai", model="gpt-5", latency_ms=10)])
    assert ask("overview", user, "15M").requests == 1


def test_an_empty_window_gives_zeros_and_no_percentiles(database: Database, ask: Ask) -> None:
    write(ask, scattered(someone(), database.now, count=20))
    database.refresh()
    for interval in ("1H", "7D"):
        overview = ask("overview", someone(), interval)
        assert (overview.requests, overview.cost_usd, overview.error_rate) == (0, 0, 0.0)
        assert (overview.p50_latency_ms, overview.average_latency_ms) == (None, None)
        series = ask("time_series", someone(), interval)
        assert {bucket.requests for bucket in series} == {0}
        assert {bucket.p99_latency_ms for bucket in series} == {None}
        for name in ("provider_model_latency", "daily_model_cost", "error_rate"):
            assert ask(name, someone(), interval) == []


def test_all_users_is_the_sum_of_each(database: Database, ask: Ask) -> None:
    rows = [row for _ in range(3) for row in scattered(someone(), database.now, count=40)]
    write(ask, rows[:-10])
    database.refresh()
    write(ask, rows[-10:])
    if database.storage == "timescale":
        database.refresh()

    oracle.assert_overview(ask("overview", ALL_USERS, "7D"), rows)
    costs = ask("daily_model_cost", ALL_USERS, "7D", timezone="Asia/Kolkata")
    assert list(costs) == oracle.daily_model_costs(rows, costs.window, "Asia/Kolkata")


def test_percentiles_hold_their_bound_on_point_masses(database: Database, ask: Ask) -> None:
    masses = {
        "all the same": [500] * 300,
        "six in a hundred time out": [200] * 282 + [60_000] * 18,
        "both ends of the range": [10] * 150 + [3_600_000] * 150,
        "two requests": [10, 3_600_000],
        "one request": [10_007],
    }
    books = {
        name: [
            row.model_copy(update={"latency_ms": latency_ms})
            for row, latency_ms in zip(
                scattered(someone(), database.now, count=len(latencies)), latencies, strict=True
            )
        ]
        for name, latencies in masses.items()
    }
    write(ask, [row for rows in books.values() for row in rows])
    database.refresh()
    for name, rows in books.items():
        overview = ask("overview", rows[0].user_id, "7D", at=database.now)
        assert overview.percentile_error in RELATIVE_ERROR.values(), name
        oracle.assert_overview(overview, rows)


@pytest.mark.storage("postgres")
def test_late_rows_are_seen_at_once_on_plain_postgresql(database: Database, ask: Ask) -> None:
    user = someone()
    rows = scattered(user, database.now, count=40)
    write(ask, rows[:20])
    database.refresh()
    write(ask, rows[20:])
    oracle.assert_overview(ask("overview", user, "7D"), rows)


def widened(window: Window, raw_from: datetime) -> Window:
    def is_cut(moment: datetime) -> bool:
        return moment < raw_from and bool(moment.minute or moment.second or moment.microsecond)

    def hour(moment: datetime) -> datetime:
        return moment.replace(minute=0, second=0, microsecond=0)

    if not window.length:
        return window
    return Window(
        start=hour(window.start) if is_cut(window.start) else window.start,
        end=hour(window.end) + HOUR if is_cut(window.end) else window.end,
    )
