"""What is asked of the execution ledger: statistics, pages and exports, against SQL by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from ledger import Window
from scripts.benchmarks.audit_load import BUSIEST, DAYS, LARGE
from scripts.benchmarks.by_hand import planned_by_hand
from scripts.benchmarks.measure import Figure, in_turns, interleaved, seconds
from scripts.benchmarks.storage import told

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from sqlalchemy import Engine

    from ledger import Ledger
    from ledger.records.audit import ExecutionPage
    from ledger.records.execution_statistics import CostStatistics, ExecutionStatistics

MANY: Final = 1_000_000
FASTER: Final = 50
"""Times, over so many runs."""
COPY_TIMES: Final = 1.5
PAGE, PAGE_ROWS, PAGE_TIMES = 10_000, 50, 1.5

_BY_HAND: Final = """
SELECT count(*), count(*) FILTER (WHERE status = 'completed'),
  count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'aborted'),
  sum((cost_json ->> 'total')::numeric), avg((execution_trace_json ->> 'duration_ms')::bigint)
FROM ledger.execution_ledger WHERE {column} = %s"""
_COPY: Final = (
    b"COPY (SELECT * FROM ledger.execution_ledger WHERE project_id = %s) TO STDOUT (FORMAT csv)"
)


def figures(ledger: Ledger, engine: Engine, rows: int) -> Iterator[Figure]:
    """Medians of calls in turn with those by hand, which are planned as the ledger's reads."""
    with planned_by_hand(engine) as connection:
        yield from _statistics(ledger, connection, rows)
        yield from _pages(ledger)
        yield from _export(ledger, connection)


def _statistics(ledger: Ledger, connection: psycopg.Connection[Any], rows: int) -> Iterator[Figure]:
    def summed(column: str, value: object) -> tuple[Any, ...]:
        statement = _BY_HAND.format(column=column)
        (row,) = connection.execute(statement.encode(), [value]).fetchall()
        return tuple(row)

    agent = partial(ledger.audit.agent_cost_statistics, BUSIEST)
    project = partial(ledger.audit.project_execution_statistics, LARGE)
    by_agent, by_project = (
        partial(summed, "agent_id", BUSIEST),
        partial(summed, "project_id", LARGE),
    )
    _require_same(agent(), by_agent(), project(), by_project())
    for name, ask, by_hand in (
        ("costs of the busiest agent, of all time", agent, by_agent),
        ("statistics of a project, of all time", project, by_project),
    ):
        ours, theirs = in_turns(ask, by_hand, turns=3, calls=3)
        yield Figure(
            name=f"{name}, against summing JSON",
            measured=f"{theirs:,.1f} ms, {ours:.1f} ms: {theirs / ours:.0f} times faster",
            target=f"{FASTER} times" if rows >= MANY else "",
            holds=rows < MANY or theirs >= FASTER * ours,
        )


def _require_same(
    agent: CostStatistics,
    by_agent: tuple[Any, ...],
    project: ExecutionStatistics,
    by_project: tuple[Any, ...],
) -> None:
    """Counts and sums are those of the JSON, to the last digit."""
    assert (agent.count, agent.total_cents) == (by_agent[0], by_agent[4])
    assert (
        project.total_executions,
        project.successful,
        project.failed,
        project.aborted,
        project.total_cost_cents,
    ) == by_project[:5]
    # By PostgreSQL to 16 digits, by Python to 28.
    assert round(project.average_duration_ms, 6) == round(by_project[5], 6)


def _pages(ledger: Ledger) -> Iterator[Figure]:
    """By a cursor made where a page begins, not by paging there."""

    def before(page: int) -> str:
        """What the page before that one ends with."""
        last = ledger.audit.executions_by_project(LARGE, limit=1, offset=(page - 1) * PAGE_ROWS - 1)
        assert last.next_cursor is not None
        return last.next_cursor

    def read(after: str | None) -> ExecutionPage:
        page = ledger.audit.executions_by_project(LARGE, limit=PAGE_ROWS, after=after)
        assert len(page.executions) == PAGE_ROWS
        return page

    there = read(None).total or 0
    far = min(PAGE, there // PAGE_ROWS)
    after, second = before(far), before(2)
    for name, near in (("page 1, which counts all of them", None), ("page 2", second)):
        ours, first = interleaved(partial(read, after), partial(read, near))
        yield Figure(
            name=f"page {far:,} of a project's runs, {PAGE_ROWS} each, against {name}",
            measured=f"{ours:.2f} against {first:.2f} ms: {ours / first:.2f}",
            target=f"{PAGE_TIMES}",
            holds=ours <= PAGE_TIMES * first,
        )


def _export(ledger: Ledger, connection: psycopg.Connection[Any]) -> Iterator[Figure]:
    """A file of all rows of the large project, and the same rows as the server has them."""
    now = datetime.now(UTC)
    window = Window(start=now - timedelta(days=DAYS + 2), end=now + timedelta(days=1))
    exported = 0
    with TemporaryDirectory() as folder:

        def ours() -> None:
            nonlocal exported
            with (Path(folder) / "ours.csv").open("wb") as file:
                exported = ledger.audit.export_executions_csv(LARGE, window, to=file)

        def raw() -> None:
            with (
                (Path(folder) / "raw.csv").open("wb") as file,
                connection.cursor() as cursor,
                cursor.copy(_COPY, [LARGE]) as copy,
            ):
                for data in copy:
                    file.write(data)

        took, least = interleaved(ours, raw, repeat=3, warm=1)
        yield Figure(
            name=f"CSV of {exported:,} runs to a file, against COPY TO STDOUT to one",
            measured=f"{took / 1000:.2f} against {least / 1000:.2f} s: {took / least:.2f}",
            target=f"{COPY_TIMES}",
            holds=took <= COPY_TIMES * least,
        )
        path = Path(folder) / "whole.csv"
        whole = seconds(lambda: ledger.audit.export_executions_csv(LARGE, window, to=path))
        yield told("to a path, on the disk before it is renamed", f"{whole:.2f} s")
