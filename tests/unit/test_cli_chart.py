from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import Answer, TimeBucket, Window
from ledger.cli.chart import (
    ASCII_BLOCKS,
    AXIS_COLUMNS,
    BLOCKS,
    PART_STYLE,
    SPLIT_STYLE,
    WHOLE_STYLE,
    Bar,
    Canvas,
    bar_chart,
    compact,
    labels,
    merged,
    sparkline,
)
from ledger.cli.series import drawn

START = datetime(2026, 11, 20, tzinfo=UTC)

amounts = st.lists(st.floats(min_value=0, max_value=1e12), min_size=1, max_size=60)


def plot(bars: Sequence[Bar], canvas: Canvas) -> list[str]:
    """The chart without its axis and ground, top first."""
    return [line.plain[AXIS_COLUMNS:] for line in bar_chart(bars, canvas)[:-1]]


def styles(bars: Sequence[Bar], canvas: Canvas) -> list[str]:
    """The styles of the bars' cells that are not empty, ground first."""
    lines = reversed(bar_chart(bars, canvas)[:-1])
    return [
        str(span.style)
        for line in lines
        for span in line.spans
        if line.plain[span.start : span.end].strip() and span.start >= AXIS_COLUMNS
    ]


def bucket(number: int, **what_matters: object) -> TimeBucket:
    values: dict[str, object] = {
        "requests": 0,
        "errors": 0,
        "rate_limited": 0,
        "error_rate": 0.0,
        "average_latency_ms": None,
        "p50_latency_ms": None,
        "p95_latency_ms": None,
        "p99_latency_ms": None,
        "input_tokens": 0,
        "output_tokens": 0,
        "reasoning_tokens": 0,
        "cost_usd": Decimal(0),
        "unpriced_requests": 0,
        "bucket_start": START + timedelta(hours=number),
    }
    return TimeBucket(**(values | what_matters))  # type: ignore[arg-type]  # checked by use


def series(*buckets: TimeBucket) -> Answer[TimeBucket]:
    window = Window(start=START, end=START + timedelta(hours=len(buckets)))
    return Answer(buckets, window=window, percentile_error=0.0, is_exact=True)


@given(amounts, st.integers(min_value=AXIS_COLUMNS + 1, max_value=200))
def test_a_chart_is_never_wider_than_its_canvas(values: list[float], columns: int) -> None:
    canvas = Canvas(columns=columns)
    bars = [Bar(amount=max(run)) for run in merged(values, canvas.plot_columns)]
    assert all(line.cell_len <= columns for line in bar_chart(bars, canvas))
    assert sparkline([bar.amount for bar in bars], canvas).cell_len <= columns
    assert labels("11-20 00:00", "11-21 00:00", canvas, len(bars)).cell_len <= max(
        columns, AXIS_COLUMNS + 11
    )


@given(amounts)
def test_more_than_nothing_is_seen_and_nothing_is_not(values: list[float]) -> None:
    canvas = Canvas(columns=AXIS_COLUMNS + len(values))
    ground = plot([Bar(amount=value) for value in values], canvas)[-1]
    assert [sign != " " for sign in ground] == [value > 0 for value in values]


@given(amounts)
def test_only_the_highest_bars_reach_the_top(values: list[float]) -> None:
    canvas = Canvas(columns=AXIS_COLUMNS + len(values), rows=4)
    top = plot([Bar(amount=value) for value in values], canvas)[0]
    for sign, value in zip(top, values, strict=True):
        if value == max(values) > 0:
            assert sign == BLOCKS[-1]
        if value < max(values) * 0.7:
            assert sign == BLOCKS[0]


def test_a_bar_is_as_high_as_its_amount() -> None:
    canvas = Canvas(columns=AXIS_COLUMNS + 4, rows=2)
    bars = [Bar(amount=amount) for amount in (16, 12, 8, 1)]
    assert plot(bars, canvas) == ["█▄  ", "███▁"]


def test_the_part_is_drawn_from_the_ground_in_its_own_colour() -> None:
    canvas = Canvas(columns=AXIS_COLUMNS + 1, rows=4)
    assert styles([Bar(amount=4, part=1.5)], canvas) == [
        PART_STYLE,
        SPLIT_STYLE,
        WHOLE_STYLE,
        WHOLE_STYLE,
    ]
    assert styles([Bar(amount=4, part=4)], canvas) == [PART_STYLE] * 4
    assert styles([Bar(amount=4)], canvas) == [WHOLE_STYLE] * 4


def test_without_colour_a_part_does_not_change_the_bar() -> None:
    canvas = Canvas(columns=AXIS_COLUMNS + 1, rows=4, has_colour=False)
    assert plot([Bar(amount=4, part=1.5)], canvas) == plot([Bar(amount=4)], canvas)


def test_a_terminal_without_unicode_is_drawn_in_ascii() -> None:
    canvas = Canvas(columns=40, has_unicode=False)
    lines = [*bar_chart([Bar(amount=3), Bar(amount=1)], canvas), sparkline([1, 2], canvas)]
    assert all(line.plain.isascii() for line in lines)
    assert len(ASCII_BLOCKS) == len(BLOCKS)


def test_nothing_at_all_is_an_empty_chart() -> None:
    canvas = Canvas(columns=40)
    assert not "".join(plot([Bar(amount=0)] * 3, canvas)).strip()
    assert not sparkline([None, 0], canvas).plain.strip()


@given(st.lists(st.integers(), max_size=300), st.integers(min_value=1, max_value=80))
def test_merging_keeps_every_item_in_order(items: list[int], most: int) -> None:
    runs = merged(items, most)
    assert list(chain.from_iterable(runs)) == items
    assert len(runs) <= most


@given(st.floats(min_value=0, max_value=9e14))
def test_a_number_on_the_axis_fits_beside_it(number: float) -> None:
    assert len(compact(number)) <= AXIS_COLUMNS - 2


@pytest.mark.parametrize(
    "number, written",
    [
        (0, "0"),
        (0.5, "0.50"),
        (7, "7"),
        (412, "412"),
        (1_240, "1.24k"),
        (35_100, "35.1k"),
        (999_999, "1M"),
    ],
)
def test_numbers_on_the_axis_are_short(number: float, written: str) -> None:
    assert compact(number) == written


def test_a_series_says_what_its_bars_stand_for() -> None:
    buckets = (
        bucket(number, requests=10, errors=1, p95_latency_ms=100.0 * number, cost_usd=Decimal(2))
        for number in range(24)
    )
    lines = [line.plain for line in drawn(series(*buckets), Canvas(columns=AXIS_COLUMNS + 12))]
    assert "240 requests" in lines[0]
    assert "24 of them errors" in lines[0]
    assert "each bar 2 hours" in lines[0]
    assert any(line.strip().startswith("11-20 00:00") for line in lines)
    assert "errors, at most 2 in a bar" in lines
    assert "p95 latency, at most 2,300 ms" in lines
    assert "cost, 48.0000 USD in all" in lines


def test_a_series_without_errors_or_latency_leaves_their_lines_out() -> None:
    text = "\n".join(
        line.plain for line in drawn(series(bucket(0, requests=1)), Canvas(columns=60))
    )
    assert "at most" not in text


def test_a_series_of_one_bucket_is_drawn() -> None:
    lines = list(drawn(series(bucket(0, requests=3)), Canvas(columns=60)))
    assert BLOCKS[-1] in lines[1].plain
