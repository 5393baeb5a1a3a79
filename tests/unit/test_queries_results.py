"""Results as JSON: nothing lost, nothing that json cannot write."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from ledger import Answer, DailyModelCost, Window
from ledger.records.plain import plain


@pytest.mark.parametrize(
    "value, expected",
    [
        (Decimal("0E-12"), "0"),
        (Decimal("12.500000000000"), "12.5"),
        (Decimal("1E+3"), "1000"),
        (Decimal(1000), "1000"),
        (Decimal("0.000000000001"), "0.000000000001"),
        (Decimal("123456789012345678901234567890.120"), "123456789012345678901234567890.12"),
        (
            datetime(2026, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5.5))),
            "2026-01-01T00:00:00Z",
        ),
        (date(2026, 1, 1), "2026-01-01"),
        ([Decimal(1), None, 0.5], ["1", None, 0.5]),
        ({"took": timedelta(minutes=1.5)}, {"took": 90.0}),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_values_keep_all_they_say(value: object, expected: object) -> None:
    assert plain(value) == expected


def test_an_answer_says_what_it_is_an_answer_to() -> None:
    window = Window(start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 1, 2, tzinfo=UTC))
    cost = DailyModelCost(
        day=date(2026, 1, 1),
        provider="openai",
        model="gpt-5",
        requests=2,
        input_tokens=3,
        output_tokens=4,
        cost_usd=Decimal("0.10"),
        unpriced_requests=1,
    )
    answer = Answer([cost], window=window, percentile_error=0.0, is_exact=True)
    assert answer == [cost]
    assert json.loads(json.dumps(answer.to_dict())) == {
        "window": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
        "percentile_error": 0.0,
        "is_exact": True,
        "items": [
            {
                "day": "2026-01-01",
                "provider": "openai",
                "model": "gpt-5",
                "requests": 2,
                "input_tokens": 3,
                "output_tokens": 4,
                "cost_usd": "0.1",
                "unpriced_requests": 1,
            }
        ],
    }
