"""How far ahead records may be, as the environment and a caller say it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger import InvalidSettings, Ledger
from ledger.settings import Settings
from ledger.write.terms import terms_of

VARIABLE = "LEDGER_FUTURE_TOLERANCE"
NOWHERE = "postgresql://nobody@localhost:1/nothing"


@pytest.mark.parametrize(
    "said, meant",
    [
        ("300", timedelta(seconds=300)),
        ("0", timedelta(0)),
        ("86400", timedelta(days=1)),
        ("00:10:00", timedelta(minutes=10)),
    ],
)
def test_a_tolerance_is_read_in_seconds(
    monkeypatch: pytest.MonkeyPatch, said: str, meant: timedelta
) -> None:
    monkeypatch.setenv(VARIABLE, said)
    assert terms_of(Settings.load()).future_tolerance == meant


@pytest.mark.parametrize("said", ["86401", "-1", "soon", "2 days"])
def test_a_tolerance_that_no_clock_needs_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(InvalidSettings, match=VARIABLE):
        Settings.load()


@pytest.mark.parametrize("given", [timedelta(days=1, seconds=1), timedelta(seconds=-1)])
def test_a_callers_tolerance_is_held_to_the_same(given: timedelta) -> None:
    with pytest.raises(InvalidSettings, match="future_tolerance"):
        Ledger.connect(NOWHERE, future_tolerance=given)
