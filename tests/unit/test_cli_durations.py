from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.cli.durations import duration, spoken
from ledger.errors import InvalidArgument

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    "words, meant",
    [
        ("90d", 90 * DAY),
        ("90 days", 90 * DAY),
        ("1 day", DAY),
        (" 2W ", 14 * DAY),
        ("12h", DAY / 2),
        ("1d 12h", DAY * 1.5),
        ("1d12h", DAY * 1.5),
        ("1 day, 12 hours", DAY * 1.5),
        ("90min", timedelta(minutes=90)),
        ("5m", timedelta(minutes=5)),
    ],
)
def test_a_duration_is_written_as_people_write_it(words: str, meant: timedelta) -> None:
    assert duration(words) == meant


@pytest.mark.parametrize(
    "words",
    ["", "90", "d", "-1d", "1.5d", "1 month", "2y", "90d!", "12:00", "1d 2", "0d", "0h 0m", "1e3d"],
)
def test_what_is_no_duration_is_refused_by_name(words: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        duration(words)
    assert repr(words) in str(refused.value)


@pytest.mark.parametrize("words", ["999999999999d", f"{'9' * 5_000}d", "999999999d 999999999d"])
def test_a_duration_beyond_the_calendar_is_refused(words: str) -> None:
    with pytest.raises(InvalidArgument, match="longer than any"):
        duration(words)


@given(st.integers(min_value=1, max_value=10_000_000))
def test_a_spoken_duration_is_read_back(minutes: int) -> None:
    length = timedelta(minutes=minutes)
    assert duration(spoken(length).replace(",", "")) == length


def test_durations_are_spoken_in_whole_words() -> None:
    assert spoken(timedelta(days=1, hours=2, minutes=1, seconds=3)) == (
        "1 day 2 hours 1 minute 3 seconds"
    )
    assert spoken(1_000 * DAY) == "1,000 days"
    assert spoken(timedelta(0)) == "no time"
    assert spoken(None) == "for ever"
