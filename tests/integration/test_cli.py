"""The `ledger` command on every database: what it says is what the ledger answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from ledger import ALL_USERS, Ledger, Window
from ledger.cli.seeding import invented_users
from ledger.settings import Storage
from ledger.window import HOUR, floor
from tests.builders import USER, transaction
from tests.commands import Ran, run, succeed
from tests.databases import Target
from tests.readings import Database

ROWS = 300
HEAVIEST = invented_users(1, seed=1)[0]
END = floor(datetime.now(UTC), HOUR) - 3 * HOUR
WINDOW = Window(start=END - timedelta(days=7), end=END)
ASKED = ("--from", WINDOW.start.isoformat(), "--to", WINDOW.end.isoformat())


@pytest.fixture
def at(database_url: str) -> tuple[str, str]:
    """The options that name the test's database."""
    return "--database-url", database_url


@pytest.fixture
def books(database_url: str, target: Target) -> Database:
    """A superuser's way round the ledger."""
    return Database(url=database_url, storage=Storage(target.storage))


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    with Ledger.connect(database_url) as ledger:
        yield ledger


@pytest.fixture
def seeded(at: tuple[str, str], books: Database) -> Ran:
    """What seeding printed; the calls are rolled up, and no job will change how they are read."""
    books.stop_jobs()
    ran = succeed("seed", "--rows", ROWS, "--end", END.isoformat(), "--json", *at)
    books.refresh()
    return ran


def test_seeding_records_exactly_as_many_calls_as_asked_for(seeded: Ran, ledger: Ledger) -> None:
    assert seeded.json()["inserted"] == ROWS
    assert seeded.err == ""
    overview = ledger.telemetry.overview(ALL_USERS, WINDOW)
    assert overview.requests == ROWS
    assert 0 < overview.errors < ROWS / 5
    assert 0 < overview.unpriced_requests < ROWS / 5


@pytest.mark.usefixtures("seeded")
def test_seeding_again_adds_nothing(at: tuple[str, str]) -> None:
    again = succeed("seed", "--rows", ROWS, "--end", END.isoformat(), *at)
    assert again.out == f"Recorded 0 calls; {ROWS} were there already.\n"


def test_seeding_is_for_the_users_that_are_named(at: tuple[str, str], ledger: Ledger) -> None:
    ran = succeed("seed", "--rows", 20, "--days", 1, "--user", USER, *at)
    assert f"--user {USER}" in ran.err
    day = Window(start=datetime.now(UTC) - timedelta(days=2), end=datetime.now(UTC))
    assert ledger.telemetry.overview(USER, day).requests == 20


def test_calls_beyond_retention_are_counted_and_explained(at: tuple[str, str]) -> None:
    ran = run("seed", "--rows", 3, "--end", "2020-01-01", *at)
    assert ran.exit_code == 1
    assert "Recorded 0 calls." in ran.out
    assert "3 were rejected" in ran.out


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question put by command and to the ledger."""

    words: str
    method: str
    arguments: dict[str, Any] = field(default_factory=dict)


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(
    "asked",
    [
        Asked(words="overview", method="overview"),
        Asked(words="latency", method="provider_model_latency"),
        Asked(words="errors", method="error_rate"),
        Asked(
            words="costs --timezone Asia/Kolkata",
            method="daily_model_cost",
            arguments={"timezone": "Asia/Kolkata"},
        ),
        Asked(
            words="time-series --bucket 3h", method="time_series", arguments={"bucket": 3 * HOUR}
        ),
    ],
    ids=lambda asked: asked.method,
)
@pytest.mark.parametrize(
    "filters", [{}, {"provider": "openai", "model": "gpt-5"}], ids=["all", "model"]
)
@pytest.mark.parametrize("user", [None, HEAVIEST], ids=["everybody", "user"])
def test_json_is_the_ledger_s_own_answer(
    database_url: str, asked: Asked, filters: dict[str, str], user: UUID | None
) -> None:
    with Ledger.connect(database_url) as ledger:
        ask = getattr(ledger.telemetry, asked.method)
        answer = ask(user or ALL_USERS, WINDOW, **asked.arguments, **filters)
    whose = ["--all-users"] if user is None else ["--user", str(user)]
    options = [word for name, value in filters.items() for word in (f"--{name}", value)]
    at = ("--database-url", database_url)
    ran = succeed(*asked.words.split(), *whose, *options, *ASKED, "--json", *at)
    assert ran.json() == answer.to_dict()
    assert ran.err == ""


@pytest.mark.usefixtures("seeded")
def test_an_interval_ends_at_to(at: tuple[str, str], ledger: Ledger) -> None:
    middle = END - timedelta(days=3)
    ran = succeed(
        "overview", "--all-users", "--interval", "1d", "--to", middle.isoformat(), "--json", *at
    )
    assert ran.json() == ledger.telemetry.overview(ALL_USERS, "1D", at=middle).to_dict()


@pytest.mark.usefixtures("seeded")
def test_times_of_costs_are_of_the_zone_that_days_are(at: tuple[str, str]) -> None:
    day = (END - timedelta(days=2)).date().isoformat()
    next_day = (END - timedelta(days=1)).date().isoformat()
    asked = ("--from", day, "--to", next_day, "--timezone", "Asia/Kolkata")
    found = succeed("costs", "--all-users", *asked, "--json", *at).json()
    assert {item["day"] for item in found["items"]} == {day}
    assert found["window"]["start"].endswith("18:30:00Z")


def test_tables_have_units_and_separators(at: tuple[str, str], ledger: Ledger) -> None:
    calls = [
        transaction(
            latency_ms=61_234,
            input_tokens=1_234_567,
            cost_usd=Decimal("1234.5"),
            http_status_code=429,
        ),
        transaction(latency_ms=61_234),
    ]
    ledger.telemetry.insert_transactions(calls)
    whose = ("--user", USER, *at)
    overview = succeed("overview", *whose).out
    for words in ("61,234 ms", "1,234,567", "1,234.5000 USD, without 1 unpriced request", "50.00%"):
        assert words in overview
    assert "61,234" in succeed("latency", *whose).out
    errors = succeed("errors", *whose).out
    assert "gpt-4o" in errors
    assert "50.00%" in errors
    costs = succeed("costs", *whose).out
    assert costs.count("1,234.5000") == 2, "the model's, and the total"
    assert "day in UTC" in costs


def test_a_chart_is_drawn_as_wide_as_the_terminal(at: tuple[str, str], ledger: Ledger) -> None:
    now = datetime.now(UTC)
    ledger.telemetry.insert_transactions(
        transaction(timestamp=now - timedelta(hours=hours), http_status_code=500)
        for hours in range(20)
    )
    narrow = succeed("time-series", "--user", USER, *at, environment={"COLUMNS": "40"}).out
    chart = [line for line in narrow.splitlines() if "█" in line]
    assert chart
    assert max(map(len, chart)) <= 40
    assert "20 requests, 20 of them errors" in narrow


@pytest.mark.parametrize("question", ["overview", "latency", "costs", "errors", "time-series"])
def test_no_requests_are_said_to_be_none(at: tuple[str, str], question: str) -> None:
    ran = succeed(question, "--user", uuid4(), *at)
    assert ran.out.startswith("No requests: ")
    assert len(ran.out.splitlines()) == 1
    assert succeed(question, "--user", uuid4(), "--json", *at).json()


def test_a_model_s_name_cannot_steer_the_terminal(at: tuple[str, str], ledger: Ledger) -> None:
    ledger.telemetry.insert_transaction(transaction(model="evil\x1b[2J[bold]model"))
    for question in ("latency", "costs", "errors"):
        out = succeed(question, "--all-users", *at).out
        assert "\x1b" not in out
        assert "[2J[bold]model" in out


def test_maintenance_reports_where_the_books_stand(at: tuple[str, str]) -> None:
    succeed("seed", "--rows", ROWS, "--end", END.isoformat(), *at)
    # TimescaleDB's own job may hold the refresh, and then a run says that it was not done.
    reports = (run("maintain", "--json", *at) for _ in range(20))
    report = next(ran for ran in reports if ran.exit_code == 0).json()
    assert report["is_healthy"]
    assert datetime.fromisoformat(report["watermark"]) >= END
    assert "rolled up before" in run("maintain", *at).out


@pytest.mark.storage("timescale")
def test_maintenance_with_a_problem_exits_with_one_and_names_it(
    at: tuple[str, str], books: Database
) -> None:
    books.sql(
        "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs"
        " WHERE proc_schema = 'ledger'"
    )
    ran = run("maintain", *at)
    assert ran.exit_code == 1
    assert ran.err.strip()


@pytest.mark.usefixtures("seeded")
def test_reconciling_finds_nothing_until_a_rollup_is_wrong(
    at: tuple[str, str], books: Database
) -> None:
    books.stop_jobs()
    books.refresh()
    clean = succeed("reconcile", *ASKED, *at)
    assert "The rollups are what their raw rows say." in clean.out
    assert f"{ROWS} requests" in clean.out
    tampered = (
        "llm_metrics_1h_materialized"
        if books.storage is Storage.POSTGRES
        else books.sql(
            "SELECT materialization_hypertable_schema || '.' || materialization_hypertable_name"
            " FROM timescaledb_information.continuous_aggregates WHERE view_name = 'llm_metrics_1h'"
        )[0][0]
    )
    schema = "ledger." if books.storage is Storage.POSTGRES else ""
    books.sql(f"UPDATE {schema}{tampered} SET requests = requests + 1")
    wrong = run("reconcile", *ASKED, *at)
    assert wrong.exit_code == 1
    assert "requests is" in wrong.out
    found = run("reconcile", *ASKED, "--json", *at)
    assert found.exit_code == 1
    assert found.json()["differences_found"] > 0


def test_reconciling_what_is_not_rolled_up_says_so(at: tuple[str, str]) -> None:
    ran = succeed("reconcile", "--from", datetime.now(UTC).isoformat(), *at)
    assert ran.out.startswith("Nothing to compare")


def test_retention_is_shown_and_set(at: tuple[str, str]) -> None:
    assert "730 days" in succeed("retention", "show", *at).out
    assert (
        succeed("retention", "set", "1h", "800 days", *at).out == "Hours are kept for 800 days.\n"
    )
    shown = succeed("retention", "show", "--json", *at).json()
    assert shown["1h"] == timedelta(days=800).total_seconds()


def test_a_retention_that_would_erase_rollups_is_refused(at: tuple[str, str]) -> None:
    ran = run("retention", "set", "1h", "2d", *at)
    assert ran.exit_code == 3
    assert "erase" in ran.err
    assert "730 days" in succeed("retention", "show", *at).out


def test_progress_is_shown_to_a_terminal_and_to_nothing_else(at: tuple[str, str]) -> None:
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    words = ("seed", "--rows", 600, "--days", 1)
    seeded = succeed(*words, *at, environment=terminal)
    assert "Recording" in seeded.err
    assert "Recording" not in succeed(*words, *at).err
    reconciled = succeed("reconcile", *at, environment=terminal)
    assert "\x1b" in reconciled.err
    assert succeed("reconcile", *at).err == ""
    chart = succeed("time-series", "--all-users", *at, environment=terminal).out
    assert "\x1b[36m" in chart
    assert "\x1b" not in succeed("time-series", "--all-users", *at).out


@pytest.mark.usefixtures("seeded")
def test_edges_whose_raw_rows_are_gone_are_said_to_be_whole_hours(
    at: tuple[str, str], books: Database
) -> None:
    books.forget_raw_before(END - timedelta(days=1))
    start = END - timedelta(days=3, minutes=30)
    ran = succeed("errors", "--all-users", "--from", start.isoformat(), *at)
    assert "whole hours were summed" in ran.err
    assert f"{start - timedelta(minutes=30):%Y-%m-%d %H:%M} to" in ran.out
