"""Writes any number of records and says how far its memory grew: a process of a test's own.

    python -m tests.millions URL good 1000000

In the test's process the peak would be that of whatever ran there before, and tracemalloc takes
three times as long as what it traces.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.builders import fields
from tests.writers import writing

if TYPE_CHECKING:
    from ledger.records.report import WriteReport

STATUS: Final = Path("/proc/self/status")
"""Linux's. Not getrusage: its peak is at least that of the process which started this one."""

RECORDS: Final[dict[str, dict[str, Any]]] = {"good": {}, "bad": {"latency_ms": -1}}
_FEW: Final = 50_000
"""Ten batches, after which everything that is kept for good has been made."""


def _peak_kib() -> int:
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    return int(peak)


def _write(url: str, kind: str, records: int) -> None:
    def write(number: int) -> WriteReport:
        return writer.insert_transactions(fields(**RECORDS[kind]) for _ in range(number))

    with writing(url) as writer:
        write(_FEW)
        before = _peak_kib()
        report = write(records)
    sys.stdout.write(f"{report.inserted} {report.rejected_count} {_peak_kib() - before}\n")


if __name__ == "__main__":
    _write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
