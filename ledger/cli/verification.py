"""A verification of the billing ledger for a terminal: what was found, task by task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from rich.table import Table
from rich.text import Text

from ledger.cli.console import printable
from ledger.cli.figures import NONE, count, counted, moment
from ledger.cli.tables import facts, plain_table
from ledger.maintenance.verification import Severity, Status

if TYPE_CHECKING:
    from ledger.maintenance.verification import AnalyticsReport, Finding
    from ledger.maintenance.verification.data import DataReport
    from ledger.maintenance.verification.indexes import IndexReport, IndexState
    from ledger.maintenance.verification.schema import SchemaReport
    from ledger.maintenance.verification.timings import PerformanceReport

Part: TypeAlias = "str | Table | Text"

_COLOURS = {Severity.NOTE: "dim", Severity.WARNING: "yellow", Severity.FAILURE: "red"}
_STATUS_COLOURS = {Status.READY: "green", Status.WARNINGS: "yellow", Status.FAILED: "red"}


def printed(report: AnalyticsReport) -> Iterator[Part]:
    """What is printed, in its order."""
    yield f"Verified {report.database} as {report.role}, {moment(report.at)} UTC"
    yield from _task("1. Schema", _schema(report.schema), report.schema.findings)
    yield from _task("2. Indexes", _indexes(report.indexes), report.indexes.findings)
    yield from _task("3. Data", _data(report.data), report.data.findings)
    yield from _task(
        "4. Performance", _performance(report.performance), report.performance.findings
    )
    yield ""
    yield Text(_summary(report), style=_STATUS_COLOURS[report.status])


def _task(title: str, parts: Iterator[Part], findings: Sequence[Finding]) -> Iterator[Part]:
    yield ""
    yield Text(title, style="bold")
    yield from parts
    for finding in findings:
        yield Text(printable(str(finding)), style=_COLOURS[finding.severity])


def _schema(schema: SchemaReport) -> Iterator[Part]:
    if not schema.has_table:
        return
    table = plain_table(names=("column", "type", "purpose", "as declared"), numbers=())
    needed = [column for column in schema.columns if column.purpose is not None]
    for column in needed:
        is_so = "yes" if column.is_as_declared else "no"
        table.add_row(column.name, column.found or NONE, column.purpose, is_so)
    yield table
    others = [column for column in schema.columns if column.purpose is None]
    there = sum(column.is_as_declared for column in others)
    yield (
        f"{counted(schema.column_count, 'column')}, of at least {schema.fewest_columns}; of the"
        f" {len(others)} declared ones that are not shown, {there} are as declared."
    )


def _indexes(found: IndexReport) -> Iterator[Part]:
    if not found.indexes:
        return
    table = plain_table(
        names=("index", "on", "valid"),
        numbers=("size", "scans", "read", "fetched"),
    )
    table.columns[0].no_wrap = True
    for index in found.indexes:
        table.add_row(
            Text(printable(index.name)),
            Text("\n".join(_definition(index))),
            "yes" if index.is_valid else "no",
            _megabytes(index.size_bytes),
            count(index.idx_scan),
            count(index.idx_tup_read),
            count(index.idx_tup_fetch),
        )
    yield table
    per_million = found.bytes_per_million_rows
    extrapolated = (
        "too few rows to say what 1,000,000 would take"
        if per_million is None
        else f"{_megabytes(per_million)} for 1,000,000 rows"
    )
    yield f"{_megabytes(found.total_bytes)} in all; {extrapolated}."
    yield f"Use is counted since {moment(found.statistics_since)} UTC, if not for longer."


def _definition(index: IndexState) -> Iterator[str]:
    yield printable(", ".join(index.columns))
    if index.include:
        yield printable(f"INCLUDE {', '.join(index.include)}")
    if index.where is not None:
        yield printable(f"WHERE {index.where}")


def _data(data: DataReport) -> Iterator[Part]:
    if data.rows is None:
        return
    pairs = [("rows", f"{count(data.rows)}, {'counted' if data.is_exact else 'estimated'}")]
    for name in ("kind", "pricing_status"):
        rows = (f"{count(number)} {value}" for value, number in data.by(name).items())
        pairs.append((name.replace("_", " "), ", ".join(rows) or NONE))
    for name, at in (("first", data.first_created_at), ("last", data.last_created_at)):
        pairs.append((f"{name} created", NONE if at is None else f"{moment(at)} UTC"))
    deltas = data.unfolded_deltas
    unseen = "not seen by this role"
    pairs.append(("unfolded deltas", unseen if deltas is None else count(deltas)))
    yield facts(pairs)


def _performance(performance: PerformanceReport) -> Iterator[Part]:
    table = plain_table(
        names=("question", "verdict"),
        numbers=("median ms", "fastest", "slowest", "target", "acceptable", "unacceptable"),
    )
    for timing in performance.timings:
        limits = timing.limits
        why = f": {timing.reason}" if timing.reason is not None else ""
        table.add_row(
            timing.question,
            Text(printable(f"{timing.verdict}{why}")),
            *(
                NONE if taken is None else f"{taken:,.1f}"
                for taken in (timing.median_ms, timing.fastest_ms, timing.slowest_ms)
            ),
            f"{limits.target_from_ms:g}-{limits.target_ms:g}",
            f"{limits.acceptable_ms:g}",
            f"> {limits.unacceptable_ms:g}",
        )
    yield table


def _summary(report: AnalyticsReport) -> str:
    found = Counter(finding.severity for finding in report.findings)
    said = " and ".join(
        counted(found[severity], severity)
        for severity in (Severity.FAILURE, Severity.WARNING)
        if found[severity]
    )
    status = "Failed" if report.status is Status.FAILED else "Ready"
    return f"{status}, with {said}." if said else f"{status}."


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"
