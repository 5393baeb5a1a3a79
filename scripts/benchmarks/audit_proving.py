"""How fast chains are verified: inside the database, and by a program that trusts neither."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from scripts import verify_chain
from scripts.benchmarks.audit_load import LARGE
from scripts.benchmarks.by_hand import by_hand, planned_by_hand
from scripts.benchmarks.measure import Figure, seconds
from scripts.benchmarks.storage import told

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from sqlalchemy import Engine

    from ledger import Ledger

VERIFIED: Final = 50_000
CHECKED: Final = 15_000
"""Rows a second, on one core."""
_TIMES: Final = 3

_HASHED: Final = b"""
SELECT count(sha256(convert_to(concat(
  intent, input, output, cost_json, execution_trace_json, error_message), 'UTF8')))
FROM ledger.execution_ledger WHERE project_id = %s"""
"""What no verification can do without: each payload is read, written as text, and hashed."""


def figures(ledger: Ledger, engine: Engine) -> Iterator[Figure]:
    """Rows a second; on one core, as PostgreSQL is given no parallel workers.

    The best of some, as what else a machine does can only add.
    """
    rows = ledger.audit.verify(LARGE).rows
    verified: list[float] = []
    hashed: list[float] = []
    with planned_by_hand(engine) as connection:
        for _ in range(_TIMES):
            verified.append(seconds(lambda: _verify(ledger)))
            hashed.append(seconds(lambda: connection.execute(_HASHED, [LARGE]).fetchall()))
    yield _rate(
        f"verified inside the database, the {rows:,} rows of a chain",
        rows / min(verified),
        VERIFIED,
    )
    yield told(
        "verified against a query that only reads and hashes their payloads",
        f"{min(verified) / min(hashed):.2f} times",
    )
    with TemporaryDirectory() as folder, by_hand(engine) as connection:
        file = Path(folder) / "chain.csv"
        written = seconds(lambda: _write(connection, file))
        checked = 0

        def check() -> None:
            nonlocal checked
            checked = _check(file)

        took = min(seconds(check) for _ in range(_TIMES))
        yield _rate(
            f"checked by scripts/verify_chain.py, {checked:,} rows", checked / took, CHECKED
        )
        size = file.stat().st_size
        yield told("the file that it reads", f"{size / 1e6:,.0f} MB in {written:.1f} s")


def _rate(name: str, rate: float, target: int) -> Figure:
    return Figure(
        name=name,
        measured=f"{rate:,.0f} rows/s",
        target=f"{target:,} rows/s",
        holds=rate >= target,
    )


def _verify(ledger: Ledger) -> None:
    assert ledger.audit.verify(LARGE).is_intact


def _write(connection: psycopg.Connection[Any], file: Path) -> None:
    """The file that the command in the program's docstring writes."""
    (statement,) = re.findall(r'-c "(COPY .*)" >', verify_chain.__doc__ or "", re.DOTALL)
    with (
        file.open("wb") as to,
        connection.cursor() as cursor,
        cursor.copy(statement.encode()) as copy,
    ):
        for data in copy:
            to.write(data)


def _check(file: Path) -> int:
    """How many rows the program says hold."""
    ended = subprocess.run(
        [sys.executable, verify_chain.__file__, file], check=True, capture_output=True, text=True
    )
    return sum(int(rows) for rows in re.findall(r": (\d+) rows hold", ended.stdout))
