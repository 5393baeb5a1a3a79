"""How several who record runs of one project at the same time get on, against one who does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import TYPE_CHECKING, Final

from ledger import Ledger
from scripts.benchmarks.audit_load import BATCH, PROJECTS, Runs
from scripts.benchmarks.audit_writing import rates, ratio
from scripts.benchmarks.measure import Figure, seconds
from scripts.benchmarks.storage import told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.synchronize import Barrier

WRITERS: Final = 4
TIMES: Final = 1.3
"""The rate of one writer."""
_PATIENCE_SECONDS: Final = 300


def figures(url: str) -> Iterator[Figure]:
    """Processes, as threads would share one interpreter; the medians of rounds taken in turn."""
    alone, together = _rates(url, "batches", 8 * BATCH, batch_size=BATCH)
    name = f"{WRITERS} processes that record into one project, against one"
    yield ratio(f"{name}, in batches of {BATCH:,}", together, alone, TIMES)
    alone, together = _rates(url, "singles", 800, batch_size=1)
    yield told(f"{name}, one by one", rates(together, alone))


def _rates(url: str, name: str, rows: int, *, batch_size: int) -> tuple[float, float]:
    """Rows a second of one process, and of several that record as many at the same time."""
    found: dict[int, list[float]] = {1: [], WRITERS: []}
    for turn in range(3):
        for writers, rates_of in found.items():
            turns_name = f"{name}-{turn}-{writers}"
            rates_of.append(_rate(url, turns_name, writers, rows // writers, batch_size))
    alone, together = (median(rates_of) for rates_of in found.values())
    return alone, together


def _rate(url: str, name: str, writers: int, rows: int, batch_size: int) -> float:
    context = get_context("spawn")
    begin, end = context.Barrier(writers + 1), context.Barrier(writers + 1)
    processes = [
        context.Process(target=_write, args=(url, f"{name}-{number}", rows, batch_size, begin, end))
        for number in range(writers)
    ]
    for process in processes:
        process.start()
    begin.wait(_PATIENCE_SECONDS)
    took = seconds(partial(end.wait, _PATIENCE_SECONDS))
    for process in processes:
        process.join()
    return writers * rows / took


def _write(  # noqa: PLR0913, PLR0917 - what a process is told
    url: str, name: str, rows: int, batch_size: int, begin: Barrier, end: Barrier
) -> None:
    """Record runs when all others are ready to; a first one, to be ready itself."""
    drawn = Runs(name, PROJECTS[-1:]).draw(
        rows + 1, first=datetime.now(UTC) - timedelta(hours=1), step=timedelta(milliseconds=20)
    )
    first, *runs = list(drawn)
    with Ledger.connect(url) as ledger:
        ledger.audit.record_execution(first)
        begin.wait(_PATIENCE_SECONDS)
        if batch_size == 1:
            for run in runs:
                ledger.audit.record_execution(run)
        else:
            ledger.audit.record_executions(runs, batch_size=batch_size)
        end.wait(_PATIENCE_SECONDS)
