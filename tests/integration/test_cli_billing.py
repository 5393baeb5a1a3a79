"""`ledger billing` and `ledger seed --bill`: what they say is what the ledger answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from ledger import ALL_USERS, Ledger, Window
from ledger.window import HOUR, floor
from tests.commands import Ran, run, succeed
from tests.writers import sql

ROWS = 200
END = floor(datetime.now(UTC), HOUR) - 3 * HOUR
WINDOW = Window(start=END - timedelta(days=7), end=END)
ASKED = ("--from", WINDOW.start.isoformat(), "--to", WINDOW.end.isoformat())
QUESTIONS = ("margin", "providers", "models", "users", "trend", "distribution")


@pytest.fixture
def at(database_url: str) -> tuple[str, str]:
    """The options that name the test's database."""
    return "--database-url", database_url


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    with Ledger.connect(database_url) as ledger:
        yield ledger


@pytest.fixture
def seeded(at: tuple[str, str]) -> Ran:
    return succeed("seed", "--rows", ROWS, "--bill", "--end", END.isoformat(), "--json", *at)


def test_seeded_calls_are_billed_as_they_were_recorded(seeded: Ran, ledger: Ledger) -> None:
    booked = seeded.json()["booked"]
    assert (booked["inserted"], booked["rejected_count"]) == (ROWS, 0)
    recorded = ledger.telemetry.overview(ALL_USERS, WINDOW)
    billed = ledger.billing.provider_costs(WINDOW)
    assert sum(cost.requests for cost in billed) == recorded.requests == ROWS
    assert sum(cost.unpriced_requests for cost in billed) == recorded.unpriced_requests
    assert sum((cost.vendor_cost_usd for cost in billed), Decimal(0)) == recorded.cost_usd


def test_seeding_and_billing_again_adds_nothing(seeded: Ran, at: tuple[str, str]) -> None:
    again = succeed("seed", "--rows", ROWS, "--bill", "--end", END.isoformat(), "--json", *at)
    assert seeded.json()["booked"]["inserted"] == ROWS
    assert again.json()["booked"]["inserted"] == 0
    assert again.json()["booked"]["duplicates"] == ROWS


def test_each_call_has_the_id_of_its_request(seeded: Ran, database_url: str) -> None:
    assert seeded.exit_code == 0
    linked = "ledger.token_usage_ledger JOIN ledger.llm_requests USING (user_id, id)"
    assert sql(database_url, f"SELECT count(*) FROM {linked}") == [(ROWS,)]


@pytest.mark.usefixtures("seeded")
def test_json_is_what_the_ledger_answers(ledger: Ledger, at: tuple[str, str]) -> None:
    billing = ledger.billing
    answers = {
        "margin": billing.gross_margin(WINDOW),
        "providers": billing.provider_costs(WINDOW),
        "models": billing.model_costs(WINDOW),
        "users": billing.user_costs(WINDOW, 20),
        "trend": billing.margin_trend(WINDOW),
        "distribution": billing.cost_distribution(WINDOW),
    }
    assert answers.keys() == set(QUESTIONS)
    for question, answer in answers.items():
        printed = succeed("billing", question, *ASKED, "--json", *at)
        assert printed.json() == answer.to_dict(), question  # type: ignore[attr-defined]


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_has_a_table_or_a_chart(question: str, at: tuple[str, str]) -> None:
    shown = succeed("billing", question, *ASKED, *at)
    assert len(shown.out.splitlines()) > 5
    filtered = succeed("billing", question, *ASKED, "--provider", "nobody's", *at)
    assert filtered.out.startswith("No calls were booked: ")


def test_a_question_about_an_empty_ledger_is_answered(at: tuple[str, str]) -> None:
    for question in QUESTIONS:
        assert succeed("billing", question, *at).out.startswith("No calls were booked: ")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("margin", "--from", "yesterday"), "is not a time"),
        (("margin", "--from", "2026-01-01", "--interval", "7D"), "either --interval or --from"),
        (("trend", "--timezone", "Mars/Olympus"), "is not a time zone"),
        (("users", "--limit", "0"), "greater than or equal to 1"),
        (("margin", "--user", "me"), "invalid character"),
    ],
)
def test_a_wrong_option_is_explained(
    arguments: tuple[str, ...], words: str, at: tuple[str, str]
) -> None:
    ran = run("billing", *arguments, *at)
    assert ran.exit_code != 0
    assert words in " ".join(ran.err.replace("│", " ").split())


def test_a_window_of_corrections_alone_is_no_empty_one(
    seeded: Ran, ledger: Ledger, at: tuple[str, str], database_url: str
) -> None:
    assert seeded.exit_code == 0
    [(user, request_id)] = sql(
        database_url,
        "SELECT user_id, request_id FROM ledger.token_usage_ledger"
        " WHERE credits_deducted > 0 LIMIT 1",
    )
    ledger.billing.refund(user, request_id)
    for question in ("margin", "trend", "providers"):
        shown = succeed("billing", question, "--interval", "1H", *at)
        assert not shown.out.startswith("No calls were booked"), question


@pytest.mark.usefixtures("seeded")
def test_a_trend_is_of_the_time_that_is_asked_for(at: tuple[str, str]) -> None:
    days = {
        asked: succeed("billing", "trend", *asked, "--json", *at).json()["items"]
        for asked in ((), ("--interval", "7D"), ("--to", "2026-01-31"))
    }
    assert [len(found) for found in days.values()] == [30, 8, 30]
    assert days["--to", "2026-01-31"][-1]["day"] == "2026-01-31"


@pytest.mark.usefixtures("seeded")
def test_calls_of_a_status_are_asked_for(ledger: Ledger, at: tuple[str, str]) -> None:
    for said, status in (("failed", "failed"), ("all", None)):
        printed = succeed("billing", "margin", *ASKED, "--status", said, "--json", *at).json()
        found = ledger.billing.gross_margin(WINDOW, status=status)  # type: ignore[arg-type]
        assert printed == found.to_dict()
    refused = run("billing", "margin", *ASKED, "--status", "done", *at)
    assert "status 'done' is none of success, failed, cancelled" in refused.err


def test_corrections_are_no_part_of_a_distribution(at: tuple[str, str]) -> None:
    assert (
        "--restated says when corrections count"
        in run("billing", "distribution", "--restated", *at).err
    )
