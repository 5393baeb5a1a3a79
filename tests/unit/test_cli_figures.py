from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from ledger import ALL_USERS, Window
from ledger.cli import figures
from ledger.cli.console import printable
from tests.builders import USER


@pytest.mark.parametrize(
    "iso, shown",
    [
        ("2026-11-20T12:00:00", "2026-11-20 12:00"),
        ("2026-11-20T12:00:07", "2026-11-20 12:00:07"),
        ("2026-11-20T12:00:07.250", "2026-11-20 12:00:07.250"),
        ("2026-11-20T12:00:00.250", "2026-11-20 12:00:00.250"),
    ],
)
def test_a_moment_is_shown_no_finer_than_it_is(iso: str, shown: str) -> None:
    assert figures.moment(datetime.fromisoformat(iso).replace(tzinfo=UTC)) == shown


def test_a_moment_is_shown_in_utc_whatever_zone_it_is_told_in() -> None:
    kolkata = timezone(timedelta(hours=5, minutes=30))
    assert figures.moment(datetime(2026, 11, 20, 17, 30, tzinfo=kolkata)) == "2026-11-20 12:00"


def test_figures_have_separators_and_units_of_a_person() -> None:
    assert figures.count(1_234_567) == "1,234,567"
    assert figures.counted(1, "request") == "1 request"
    assert figures.counted(2_000, "request") == "2,000 requests"
    assert figures.milliseconds(12_345.6) == "12,346"
    assert figures.milliseconds(None) == "-"
    assert figures.usd(Decimal("1234.567891")) == "1,234.5679"
    assert figures.percent(0.0314) == "3.14%"


def test_a_heading_says_when_and_whose() -> None:
    window = Window(
        start=datetime(2026, 11, 19, tzinfo=UTC), end=datetime(2026, 11, 20, tzinfo=UTC)
    )
    assert figures.heading(window, ALL_USERS) == (
        "2026-11-19 00:00 to 2026-11-20 00:00 UTC, all users"
    )
    assert str(USER) in figures.heading(window, USER)


def test_a_name_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in printable("evil\x1b[2Jmodel\r\n")
    assert printable("modèle-ü") == "modèle-ü"
