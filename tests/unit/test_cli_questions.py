from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import typer

from ledger import ALL_USERS, Interval, InvalidArgument, Window
from ledger.cli.questions import Question, moment_of
from tests.builders import USER

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "words, meant",
    [
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T14:30", datetime(2026, 11, 20, 14, 30, tzinfo=UTC)),
        ("2026-11-20 14:30", datetime(2026, 11, 20, 14, 30, tzinfo=UTC)),
        ("2026-11-20T14:30Z", datetime(2026, 11, 20, 14, 30, tzinfo=UTC)),
        ("2026-11-20T14:30+01:00", datetime(2026, 11, 20, 13, 30, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_utc(words: str, meant: datetime) -> None:
    assert moment_of(words) == meant


def test_a_time_without_an_offset_is_of_the_zone_that_days_are_asked_in() -> None:
    assert moment_of("2026-11-20", BERLIN) == datetime(2026, 11, 19, 23, tzinfo=UTC)
    assert moment_of("2026-11-20T00:00Z", BERLIN) == datetime(2026, 11, 20, tzinfo=UTC)


@pytest.mark.parametrize("words", ["yesterday", "", "20.11.2026", "2026-13-01"])
def test_what_is_no_time_is_a_usage_error(words: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a time"):
        moment_of(words)


@pytest.mark.parametrize("question", [Question(), Question(user=USER, all_users=True)])
def test_whose_requests_is_said_in_exactly_one_way(question: Question) -> None:
    with pytest.raises(typer.BadParameter, match="--user UUID or --all-users"):
        question.asked()


def test_a_day_is_asked_about_unless_something_else_is() -> None:
    assert Question(user=USER).asked() == (USER, Interval.DAY, None)
    assert Question(all_users=True).asked() == (ALL_USERS, Interval.DAY, None)


def test_an_interval_ends_when_it_is_told_to() -> None:
    question = Question(user=USER, interval=Interval.HOUR, until="2026-11-20")
    assert question.asked() == (USER, Interval.HOUR, datetime(2026, 11, 20, tzinfo=UTC))


def test_from_and_to_are_a_window() -> None:
    question = Question(user=USER, since="2026-11-19", until="2026-11-20")
    window = Window(
        start=datetime(2026, 11, 19, tzinfo=UTC), end=datetime(2026, 11, 20, tzinfo=UTC)
    )
    assert question.asked() == (USER, window, None)


def test_from_alone_reaches_to_now() -> None:
    _, window, _ = Question(user=USER, since="2026-01-01").asked()
    assert isinstance(window, Window)
    assert abs(datetime.now(UTC) - window.end) < timedelta(minutes=1)


def test_an_interval_and_from_exclude_one_another() -> None:
    question = Question(user=USER, interval=Interval.HOUR, since="2026-11-20")
    with pytest.raises(typer.BadParameter, match="not both"):
        question.asked()


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="swap them"):
        Question(user=USER, since="2026-11-20", until="2026-11-19").asked()
