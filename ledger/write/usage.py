"""The plans that book usage: one call, or a batch of which those that can be are booked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ledger.errors import InvalidRecord, LedgerError
from ledger.records.report import Rejected, rejected
from ledger.records.usage import BookedUsage, Usage
from ledger.write.admission import Admission, admission
from ledger.write.booking import booked
from ledger.write.catalogues import catalogues
from ledger.write.commands import atomically, execute
from ledger.write.conflicts import VanishedRecord, conflicts
from ledger.write.faults import refusal
from ledger.write.halving import by_halves
from ledger.write.recordset import bound
from ledger.write.usage_statements import COMPARE, INSERT, STORED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ledger.write.commands import Plan, Steps
    from ledger.write.tally import Tally
    from ledger.write.terms import Terms


class Bookkeeper:
    """Books usage on the terms of a ledger."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def book_one(self, usage: Usage | Mapping[str, Any]) -> Plan[BookedUsage]:
        """Book one call. Raises InvalidRecord, UnknownReference and ConflictingRecord."""
        record = Usage.of(usage)
        try:
            try:
                return (yield from atomically(self._one(record)))
            except VanishedRecord:
                return (yield from atomically(self._one(record)))
        except UnicodeError as error:
            raise refusal(error) from error

    def book_batch(self, batch: Sequence[object], first: int, tally: Tally) -> Plan[None]:
        """Book what can be booked of a batch, and count all of it.

        ``first`` is the place of its first record. Raises what keeps the database from booking
        anything.
        """
        usages: dict[int, Usage] = {}
        refused: dict[int, Rejected] = {}
        for index, record in enumerate(batch, first):
            try:
                usages[index] = Usage.of(record)
            except InvalidRecord as error:
                refused[index] = rejected(index, error)

        def store(some: dict[int, Usage]) -> Plan[dict[int, Rejected]]:
            try:
                inserted, faults = yield from atomically(self._many(some))
            except VanishedRecord:
                inserted, faults = yield from atomically(self._many(some))
            tally.add(inserted=inserted, duplicates=len(some) - inserted - len(faults))
            return {index: rejected(index, fault) for index, fault in faults.items()}

        refused |= yield from by_halves(
            usages, store, lambda index, _, error: rejected(index, refusal(error))
        )
        tally.reject([refused[index] for index in sorted(refused)])

    def _one(self, usage: Usage) -> Steps[BookedUsage]:
        inserted, faults = yield from self._many({0: usage})
        if faults:
            raise faults[0]
        stored = (yield from execute(STORED, bound([_key(usage)]))).rows[0]
        return BookedUsage.of(stored._asdict(), is_duplicate=not inserted)

    def _many(self, usages: Mapping[int, Usage]) -> Steps[tuple[int, dict[int, LedgerError]]]:
        """How many were booked now, and why others could not be; the rest was there before."""
        rows, faults = yield from self._rows(usages)
        if not rows:
            return 0, faults
        parameters = bound(rows)
        inserted = (yield from execute(INSERT, parameters)).count
        if inserted < len(rows):
            faults |= yield from conflicts(
                COMPARE, lambda index: _called(usages[index]), parameters
            )
        return inserted, faults

    def _rows(
        self, usages: Mapping[int, Usage]
    ) -> Steps[tuple[list[dict[str, Any]], dict[int, LedgerError]]]:
        accepted = yield from admission(self._terms.future_tolerance)
        known = yield from catalogues(usages.values())
        rows: list[dict[str, Any]] = []
        faults: dict[int, LedgerError] = {}
        for index, usage in usages.items():
            try:
                _require_past(usage, accepted)
                rows.append({**booked(usage, known, self._terms.charging), "position": index})
            except InvalidRecord as error:
                faults[index] = error
        return rows, faults


def _require_past(usage: Usage, accepted: Admission) -> None:
    if (reason := accepted.too_far_ahead("created_at", usage.created_at)) is not None:
        raise InvalidRecord(reason)


def _called(usage: Usage) -> str:
    return f"request_id {usage.request_id!r} of user {usage.user_id}"


def _key(usage: Usage) -> dict[str, Any]:
    return {"user_id": usage.user_id, "request_id": usage.request_id}
