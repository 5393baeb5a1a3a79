"""The plan that writes a batch of transactions: by COPY, or through a stage where keys collide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from ledger.errors import InvalidRecord, LedgerError
from ledger.records.report import Rejected, rejected
from ledger.write.admission import admission, ensure_days, forget_days
from ledger.write.commands import atomically, execute, load
from ledger.write.conflicts import VanishedRecord, conflicts
from ledger.write.faults import blames_a_row, is_collision, lacks_partition, refusal
from ledger.write.halving import by_halves
from ledger.write.rows import REQUESTS, Row, called, days, key, microseconds, moment, row_of
from ledger.write.statements import COMPARE_STAGE, EMPTY_STAGE, MAKE_STAGE, MERGE_STAGE, STAGE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from ledger.settings import Storage
    from ledger.write.commands import Plan, Steps
    from ledger.write.tally import Tally

CLEAN_BATCHES: Final = 3
"""So many without a collision after one, and COPY straight into the table is tried again.

A collision aborts the COPY and leaves its rows dead in the table: 52 thousand of five batches.
"""

Rows: TypeAlias = "dict[int, Row]"
"""Rows by their place in what was sent."""

Refused: TypeAlias = "dict[int, Rejected]"
"""Those not written, by their place. Not the errors: each would keep its traceback alive."""


class BatchWriter:
    """Writes batch after batch, and remembers whether keys collided lately."""

    def __init__(self, *, storage: Storage, tolerance: timedelta, tally: Tally) -> None:
        self._storage, self._tolerance, self._tally = storage, tolerance, tally
        self._clean_batches = CLEAN_BATCHES
        self._sent = 0

    def write(self, batch: Sequence[object]) -> Plan[None]:
        """Write what can be written of a batch, and count all of it.

        Raises what keeps the database from writing anything.
        """
        rows, refused = _validated(batch, self._sent)
        self._sent += len(batch)
        if rows:
            refused |= yield from self._write(rows)
        self._tally.reject([refused[index] for index in sorted(refused)])

    def _write(self, rows: Rows) -> Plan[Refused]:
        try:
            admitted, late = yield from atomically(self._admitted(rows))
            return late | (yield from self._store(admitted))
        except Exception as error:
            if not lacks_partition(error):
                raise
        # Retention took a day between the question and the write. Ask again, and what then
        # still has no partition is too old.
        admitted, late = yield from atomically(self._admitted(rows, anew=True))
        return late | (yield from self._store_apart(admitted))

    def _admitted(self, rows: Rows, *, anew: bool = False) -> Steps[tuple[Rows, Refused]]:
        """Part the rows whose time is accepted from the others, and ensure their days."""
        accepted = yield from admission(self._tolerance)
        moments = list(map(microseconds, rows.values()))
        late: Refused = {}
        if any(accepted.refusal(moment(extreme)) for extreme in (min(moments), max(moments))):
            for index, row in rows.items():
                if (reason := accepted.refusal(moment(microseconds(row)))) is not None:
                    late[index] = rejected(index, InvalidRecord(reason))
            rows = {index: row for index, row in rows.items() if index not in late}
        touched = days(rows.values())
        if anew:
            yield from forget_days(self._storage, touched)
        yield from ensure_days(self._storage, touched)
        return rows, late

    def _store(self, rows: Rows) -> Plan[Refused]:
        """Write rows, by COPY where no key has collided lately."""
        if not rows:
            return {}
        distinct = _without_repeats(rows)
        try:
            if distinct is not None and self._clean_batches >= CLEAN_BATCHES:
                try:
                    yield from atomically(load(REQUESTS, distinct))
                except Exception as error:
                    if not is_collision(error):
                        raise
                else:
                    self._tally.add(inserted=len(distinct), duplicates=len(rows) - len(distinct))
                    return {}
            return (yield from self._stage(rows))
        except Exception as error:
            if lacks_partition(error) or not blames_a_row(error):
                raise
        return (yield from self._store_apart(rows))

    def _store_apart(self, rows: Rows) -> Plan[Refused]:
        """Write rows of which the database refuses some."""
        return by_halves(
            rows, self._stage, lambda index, row, error: rejected(index, _refusal(error, row))
        )

    def _stage(self, rows: Rows) -> Plan[Refused]:
        """Write rows of which some may be stored already."""
        try:
            inserted, conflicting = yield from atomically(_merge(rows))
        except VanishedRecord:
            inserted, conflicting = yield from atomically(_merge(rows))
        is_clean = inserted == len(rows)
        self._clean_batches = min(self._clean_batches + 1, CLEAN_BATCHES) if is_clean else 0
        self._tally.add(inserted=inserted, duplicates=len(rows) - inserted - len(conflicting))
        return conflicting


def _validated(batch: Sequence[object], first: int) -> tuple[Rows, Refused]:
    rows: Rows = {}
    refused: Refused = {}
    for index, record in enumerate(batch, first):
        try:
            rows[index] = row_of(record)
        except InvalidRecord as error:
            refused[index] = rejected(index, error)
    return rows, refused


def _without_repeats(rows: Rows) -> Sequence[Row] | None:
    """The rows in the order of their keys, each once; None if a key comes with two contents.

    In that order always: two writers of the same keys would deadlock.
    """
    by_key: dict[object, Row] = {}
    for row in rows.values():
        if by_key.setdefault(key(row), row) != row:
            return None
    return sorted(by_key.values(), key=key)


def _merge(rows: Rows) -> Steps[tuple[int, Refused]]:
    """Stage rows and write those whose key is not stored: how many, and the conflicts."""
    yield from execute(MAKE_STAGE)
    yield from execute(EMPTY_STAGE)
    yield from load(STAGE, list(rows.values()), list(rows))
    inserted = (yield from execute(MERGE_STAGE)).count
    if inserted == len(rows):
        return inserted, {}
    found = yield from conflicts(COMPARE_STAGE, lambda index: called(rows[index]))
    return inserted, {index: rejected(index, error) for index, error in found.items()}


def _refusal(error: Exception, row: Row) -> LedgerError:
    if lacks_partition(error):
        when = moment(microseconds(row)).isoformat(timespec="milliseconds")
        return InvalidRecord(f"timestamp {when}: the raw rows of that day are gone")
    return refusal(error)
