"""Writes any number of records and says how far its memory grew: a process of a test's own.

    python -m tests.millions URL good 1000000
    python -m tests.millions URL usages 200000

In the test's process the peak would be that of whatever ran there before, and tracemalloc takes
three times as long as what it traces.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any, Final, TypeAlias

from ledger.records.report import WriteReport
from tests.builders import fields
from tests.ledgers import books_at
from tests.writers import writing

_Write: TypeAlias = Callable[[int], WriteReport]

STATUS: Final = Path("/proc/self/status")
"""Linux's. Not getrusage: its peak is at least that of the process which started this one."""

RECORDS: Final[dict[str, dict[str, Any]]] = {"good": {}, "bad": {"latency_ms": -1}}
USAGES: Final = "usages"
"""Of the billing ledger, good and bad ones mixed."""
_FEW: Final = 50_000
"""Ten batches, after which everything that is kept for good has been made."""


def peak_kib() -> int:
    """How much memory this process has had at most."""
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    return int(peak)


@contextmanager
def _transactions(url: str, kind: str) -> Iterator[_Write]:
    with writing(url) as writer:
        yield lambda number: writer.insert_transactions(
            fields(**RECORDS[kind]) for _ in range(number)
        )


@contextmanager
def _usages(url: str) -> Iterator[_Write]:
    """Calls of which every second cannot be booked, for one reason or the other."""
    faults: tuple[dict[str, Any], ...] = ({}, {"latency_ms": -1}, {}, {"provider": "nobody"})
    of_each = cycle(faults)
    numbers = count()
    with books_at(url) as books:
        yield lambda number: books.ledger.billing.record_usages(
            books.fields(f"r{next(numbers)}", **next(of_each)) for _ in range(number)
        )


def written(url: str, kind: str, records: int) -> tuple[int, int, int]:
    """How many a process of its own inserted and had rejected, and the KiB that it grew by."""
    said = subprocess.run(
        [sys.executable, "-m", "tests.millions", url, kind, str(records)],
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    inserted, rejected, grown_kib = map(int, said.stdout.split())
    return inserted, rejected, grown_kib


def _write(url: str, kind: str, records: int) -> None:
    with _usages(url) if kind == USAGES else _transactions(url, kind) as write:
        write(_FEW)
        before = peak_kib()
        report = write(records)
    sys.stdout.write(f"{report.inserted} {report.rejected_count} {peak_kib() - before}\n")


if __name__ == "__main__":
    _write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
