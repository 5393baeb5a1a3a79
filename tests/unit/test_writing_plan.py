"""How a batch is written: the plan's own decisions, answered by a database in a dict."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from ledger.records.report import WriteReport
from ledger.settings import Storage
from ledger.write.batch import BatchWriter
from ledger.write.commands import Answer, Execute, KnownDays, Load
from ledger.write.rows import REQUESTS, key
from ledger.write.statements import CLOCK, COMPARE_STAGE, MERGE_STAGE
from ledger.write.tally import Tally
from tests.builders import transaction

if TYPE_CHECKING:
    from ledger.records.transaction import Transaction
    from ledger.write.commands import Command, Plan, Steps


class Clock(NamedTuple):
    now: datetime
    raw_from: datetime | None


class Compared(NamedTuple):
    position: int
    is_stored: bool
    differing: list[str]


class DictDatabase:
    """Answers a plan, and remembers by which way rows came in."""

    def __init__(self) -> None:
        self.rows: dict[Any, Any] = {}
        self.ways: list[str] = []
        self._stage: dict[int, Any] = {}

    def carry_out(self, plan: Plan[None]) -> None:
        send: Any = plan.send
        argument: Any = None
        while True:
            try:
                atomic = send(argument)
            except StopIteration:
                return
            try:
                send, argument = plan.send, self._carry_out(atomic.steps)
            except psycopg.Error as error:
                send, argument = plan.throw, error

    def _carry_out(self, steps: Steps[object]) -> object:
        answer: object = None
        while True:
            try:
                answer = self._answer(steps.send(answer))
            except StopIteration as end:
                return end.value

    def _answer(self, command: Command) -> object:
        match command:
            case KnownDays():
                return set()
            case Load(table=table) if table is REQUESTS:
                self.ways.append("copy")
                assert list(command.rows) == sorted(command.rows, key=key)
                if any(key(row) in self.rows for row in command.rows):
                    raise psycopg.errors.UniqueViolation
                self.rows |= {key(row): row for row in command.rows}
            case Load():
                self.ways.append("stage")
                self._stage = dict(zip(command.positions or (), command.rows, strict=True))
            case Execute(statement=statement) if statement is CLOCK:
                return Answer(rows=[Clock(datetime.now(UTC), None)], count=0)  # type: ignore[list-item]
            case Execute(statement=statement) if statement is MERGE_STAGE:
                before = len(self.rows)
                for row in self._stage.values():
                    self.rows.setdefault(key(row), row)
                return Answer(rows=(), count=len(self.rows) - before)
            case Execute(statement=statement) if statement is COMPARE_STAGE:
                differing = [
                    Compared(position, is_stored=True, differing=["latency_ms"])
                    for position, row in self._stage.items()
                    if self.rows[key(row)] != row
                ]
                return Answer(rows=differing, count=0)  # type: ignore[arg-type]
        return Answer(rows=(), count=0)


def ways(batches: list[list[Transaction]]) -> tuple[list[str], WriteReport]:
    """By which ways these batches came in, and what was counted."""
    database, tally = DictDatabase(), Tally(commits=True)
    writer = BatchWriter(storage=Storage.TIMESCALE, tolerance=timedelta(minutes=5), tally=tally)
    for batch in batches:
        database.carry_out(writer.write(batch))
    return database.ways, tally.report()


def fresh() -> list[Transaction]:
    return [transaction() for _ in range(3)]


def test_rows_are_copied_straight_into_the_table_in_the_order_of_their_keys() -> None:
    assert ways([fresh(), fresh()]) == (["copy", "copy"], WriteReport(inserted=6))


def test_after_a_collision_batches_are_staged_at_once_until_three_were_clean() -> None:
    first = fresh()
    batches = [first, first, fresh(), fresh(), fresh(), fresh()]
    assert ways(batches) == (
        ["copy", "copy", "stage", "stage", "stage", "stage", "copy"],
        WriteReport(inserted=15, duplicates=3),
    )


def test_another_collision_starts_the_count_again() -> None:
    first = fresh()
    batches = [first, first, fresh(), fresh(), first, fresh(), fresh(), fresh(), fresh()]
    assert ways(batches)[0] == ["copy", "copy", *["stage"] * 7, "copy"]


def test_a_record_sent_twice_in_a_batch_is_not_a_reason_to_stage_it() -> None:
    twice = fresh()
    assert ways([twice + twice]) == (["copy"], WriteReport(inserted=3, duplicates=3))


def test_two_contents_of_one_key_in_a_batch_are_left_to_the_database() -> None:
    one = transaction()
    other = one.model_copy(update={"latency_ms": 1})
    way, report = ways([[one, other, one]])
    assert way == ["stage"]
    assert (report.inserted, report.duplicates) == (1, 1)
    assert [(no.index, no.error) for no in report.rejected] == [(1, "ConflictingRecord")]


def test_a_batch_of_bad_records_does_not_reach_the_database() -> None:
    way, report = ways([[None, 5]])  # type: ignore[list-item]
    assert (way, report.rejected_count) == ([], 2)
