"""What an export takes: its time against COPY's, and the memory of a process that writes one.

python -m scripts.benchmarks.export URL START END
"""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from ledger import Ledger, Window
from ledger.engine import driver_of
from scripts.benchmarks.measure import Figure, interleaved, seconds
from scripts.benchmarks.storage import told
from tests.millions import STATUS, peak_kib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

MOST: Final = 1_000_000
_TIMES_COPY: Final = 1.5
_MOST_GROWTH_MB: Final = 32
_COPY: Final = (
    b"COPY (SELECT * FROM ledger.token_usage_ledger WHERE created_at >= %s AND created_at < %s)"
    b" TO STDOUT (FORMAT csv)"
)


def export(ledger: Ledger, engine: Engine, window: Window) -> Iterator[Figure]:
    """A file of the window's rows, and the same rows as the server has them."""
    exported = 0
    with TemporaryDirectory() as folder, engine.connect() as connection:
        driver = driver_of(connection)

        def ours() -> None:
            nonlocal exported
            with (Path(folder) / "ours.csv").open("wb") as file:
                exported = ledger.billing.export_usage_csv(window, to=file)

        def raw() -> None:
            with (
                (Path(folder) / "raw.csv").open("wb") as file,
                driver.cursor() as cursor,
                cursor.copy(_COPY, [window.start, window.end]) as copy,
            ):
                for data in copy:
                    file.write(data)

        took, least = interleaved(ours, raw, repeat=5, warm=1)
        yield Figure(
            name=f"CSV of {exported:,} rows to a file, against COPY TO STDOUT to one",
            measured=f"{took / 1000:.2f} against {least / 1000:.2f} s: {took / least:.2f}",
            target=f"{_TIMES_COPY}" if exported >= MOST else "",
            holds=exported < MOST or took <= _TIMES_COPY * least,
        )
        path = Path(folder) / "whole.csv"
        whole = seconds(lambda: ledger.billing.export_usage_csv(window, to=path))
        yield told("to a path, on the disk before it is renamed", f"{whole:.2f} s")
    if STATUS.exists():
        grown = _growth(engine, window)
        yield Figure(
            name="memory that it grows by",
            measured=f"{grown:.1f} MB",
            target=f"{_MOST_GROWTH_MB} MB",
            holds=grown <= _MOST_GROWTH_MB,
        )


def _growth(engine: Engine, window: Window) -> float:
    url = engine.url.render_as_string(hide_password=False)
    times = (window.start.isoformat(), window.end.isoformat())
    said = subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks.export", url, *times],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(said.stdout) / 1024


def _export_in_this_process(url: str, start: str, end: str) -> None:
    """Says how far the peak of memory grew beyond that of an export of a minute."""
    window = Window(start=datetime.fromisoformat(start), end=datetime.fromisoformat(end))
    minute = Window(start=window.end - timedelta(minutes=1), end=window.end)
    with Ledger.connect(url) as ledger, TemporaryDirectory() as folder:
        ledger.billing.export_usage_csv(minute, to=Path(folder) / "minute.csv")
        before = peak_kib()
        ledger.billing.export_usage_csv(window, to=Path(folder) / "all.csv")
    sys.stdout.write(f"{peak_kib() - before}\n")


if __name__ == "__main__":
    _export_in_this_process(*sys.argv[1:])
