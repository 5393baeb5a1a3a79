"""The plans that record runs: one of them, or a batch of which those that can be are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic_core import to_json

from ledger.errors import Contended, InvalidRecord, LedgerError, UnknownReference
from ledger.records.audit import ExecutionRecord
from ledger.records.completion import EPOCH, MILLISECOND
from ledger.records.execution import Execution
from ledger.records.identity import derived_id
from ledger.records.report import Rejected, rejected
from ledger.write.admission import admission
from ledger.write.commands import atomically, execute
from ledger.write.conflicts import conflicts
from ledger.write.execution_statements import APPEND, COMPARE, KNOWN, STORED
from ledger.write.faults import is_collision, refusal
from ledger.write.halving import by_halves
from ledger.write.recordset import POSITION, ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from ledger.write.commands import Plan, Steps
    from ledger.write.tally import Tally
    from ledger.write.terms import Terms

Result = TypeVar("Result")

MOST_CHARACTERS: Final = 8 * 1024 * 1024
"""Of payloads that are sent at once; a run may have some megabytes."""


class Recorder:
    """Records runs on the terms of a ledger."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def record_one(self, execution: Execution | Mapping[str, Any]) -> Plan[ExecutionRecord]:
        """Record one run. Raises InvalidRecord, UnknownReference and ConflictingRecord."""
        run = Execution.of(execution)
        try:
            _, faults = yield from _insistently(lambda: self._many({0: run}))
        except UnicodeError as error:
            raise refusal(error) from error
        if faults:
            raise faults[0]
        # Not in the same transaction, which holds the head of the project's chain.
        return (yield from atomically(_recorded(run.run_id)))

    def record_batch(self, batch: Sequence[object], first: int, tally: Tally) -> Plan[None]:
        """Record what can be recorded of a batch, and count all of it.

        ``first`` is the place of its first record. Raises what keeps the database from recording
        anything.
        """
        runs: dict[int, Execution] = {}
        refused: dict[int, Rejected] = {}
        for index, record in enumerate(batch, first):
            try:
                runs[index] = Execution.of(record)
            except InvalidRecord as error:
                refused[index] = rejected(index, error)

        def store(some: dict[int, Execution]) -> Plan[dict[int, Rejected]]:
            inserted, faults = yield from _insistently(lambda: self._many(some))
            tally.add(inserted=inserted, duplicates=len(some) - inserted - len(faults))
            return {index: rejected(index, fault) for index, fault in faults.items()}

        for some in _of_size(runs):
            refused |= yield from by_halves(
                some, store, lambda index, _, error: rejected(index, refusal(error))
            )
        tally.reject([refused[index] for index in sorted(refused)])

    def _many(self, runs: Mapping[int, Execution]) -> Steps[tuple[int, dict[int, LedgerError]]]:
        """How many were recorded now, and why others could not be; the rest was there before."""
        rows, faults = yield from self._rows(runs)
        # Each run_id once: a second row under it is compared with what the first one left.
        once: dict[str, str] = {}
        for index, row in rows.items():
            once.setdefault(runs[index].run_id, row)
        appended = 0
        if once:
            projects = list({runs[index].project_id for index in rows})
            sent = {"projects": projects, ROWS: _listed(once.values())}
            appended = (yield from execute(APPEND, sent)).rows[0].appended
        if appended < len(rows):
            faults |= yield from conflicts(
                COMPARE,
                lambda index: f"run_id {runs[index].run_id!r}",
                {ROWS: _listed(rows.values())},
                remedy="use another run_id",
                # Runs do not vanish: the session is narrowed, and this is another user's.
                unseen=("user_id",),
            )
        return appended, faults

    def _rows(
        self, runs: Mapping[int, Execution]
    ) -> Steps[tuple[dict[int, str], dict[int, LedgerError]]]:
        accepted = yield from admission(self._terms.future_tolerance)
        asked = {
            "users": list({run.user_id for run in runs.values()}),
            "projects": list({run.project_id for run in runs.values()}),
        }
        known = {
            (row.kind, row.id): row.is_reached for row in (yield from execute(KNOWN, asked)).rows
        }
        now = EPOCH + (accepted.now - EPOCH) // MILLISECOND * MILLISECOND
        rows: dict[int, str] = {}
        faults: dict[int, LedgerError] = {}
        for index, run in runs.items():
            created_at = run.created_at or now
            if (reason := accepted.too_far_ahead("created_at", created_at)) is not None:
                faults[index] = InvalidRecord(reason)
            elif ("user", run.user_id) not in known:
                faults[index] = _unknown("user_id", run.user_id, "upsert_user")
            elif not known["user", run.user_id]:
                faults[index] = UnknownReference(
                    f"user_id {run.user_id}: `ledger.user_id` narrows this session to another user;"
                    " record the run where it is not set"
                )
            elif ("project", run.project_id) not in known:
                faults[index] = _unknown("project_id", run.project_id, "upsert_project")
            else:
                rows[index] = _row(run, created_at, index)
        return rows, faults


def _insistently(steps: Callable[[], Steps[Result]]) -> Plan[Result]:
    """Take the steps, and again where somebody else had just taken one of the run_ids."""
    try:
        return (yield from atomically(steps()))
    except Exception as error:
        if not is_collision(error):
            raise
        return (yield from _once_more(steps))


def _once_more(steps: Callable[[], Steps[Result]]) -> Plan[Result]:
    try:
        return (yield from atomically(steps()))
    except Exception as error:
        if not is_collision(error):
            raise
        raise Contended(
            "somebody else recorded one of these run_ids after this transaction took its snapshot;"
            " record them again in a new transaction"
        ) from error


def _recorded(run_id: str) -> Steps[ExecutionRecord]:
    stored = (yield from execute(STORED, {"run_ids": [run_id]})).rows[0]
    return ExecutionRecord.of(stored._asdict())


def _row(run: Execution, created_at: datetime, position: int) -> str:
    """The run as the function that appends it reads it; payloads as they are, to the digit."""
    milliseconds = (created_at - EPOCH) // MILLISECOND
    scalars = {
        "id": derived_id(milliseconds, run.project_id, run.run_id),
        "run_id": run.run_id,
        "parent_run_id": run.parent_run_id,
        "project_id": run.project_id,
        "user_id": run.user_id,
        "agent_id": run.agent_id,
        "intent": run.intent,
        "status": run.status,
        "error_message": run.error_message,
        "created_at": created_at,
        "is_dated": run.created_at is not None,
        POSITION: position,
    }
    written = to_json(scalars).decode().removesuffix("}")
    payloads = (f'"{name}":{text or "null"}' for name, text in run.payloads.items())
    return f"{written},{','.join(payloads)}}}"


def _listed(rows: Iterable[str]) -> str:
    return f"[{','.join(rows)}]"


def _of_size(runs: dict[int, Execution]) -> Iterator[dict[int, Execution]]:
    """The runs in parts of not many bytes; a large one is a part of its own."""
    part: dict[int, Execution] = {}
    size = 0
    for index, run in runs.items():
        own = sum(len(text) for text in run.payloads.values() if text is not None)
        if part and size + own > MOST_CHARACTERS:
            yield part
            part, size = {}, 0
        part[index] = run
        size += own
    if part:
        yield part


def _unknown(field: str, value: object, remedy: str) -> UnknownReference:
    return UnknownReference(
        f"{field} {value}: the ledger does not know it; call ledger.tenancy.{remedy} first"
    )
