"""The plan that writes one transaction, and says so if it was there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import InvalidRecord
from ledger.records.transaction import Transaction
from ledger.settings import Storage
from ledger.write.admission import admission, ensure_days, forget_days
from ledger.write.commands import atomically, execute, known_days
from ledger.write.conflicts import VanishedRecord, conflicts
from ledger.write.faults import lacks_partition, refusal
from ledger.write.rows import called, parameters, row_of
from ledger.write.statements import COMPARE_ONE, INSERT_ONE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from typing import Any
    from uuid import UUID

    from ledger.write.commands import Plan, Steps


def insert_one(
    record: Transaction | Mapping[str, Any], storage: Storage, tolerance: timedelta
) -> Plan[UUID]:
    """Write one record and give the id under which it is stored.

    Raises InvalidRecord and ConflictingRecord.
    """
    transaction = record if isinstance(record, Transaction) else Transaction.of(record)
    writing = _Writing(transaction, storage, tolerance)
    try:
        return (yield from atomically(writing.steps()))
    except VanishedRecord:
        return (yield from atomically(writing.steps()))
    except UnicodeError as error:
        raise refusal(error) from error
    except Exception as error:
        if not lacks_partition(error):
            raise
    return (yield from atomically(writing.steps_on_a_new_day()))


class _Writing:
    """One attempt to write one record; any number may be made."""

    def __init__(self, record: Transaction, storage: Storage, tolerance: timedelta) -> None:
        self._record, self._storage, self._tolerance = record, storage, tolerance
        self._day = record.timestamp.date()
        self._parameters = parameters(record)

    def steps(self) -> Steps[UUID]:
        if self._storage is Storage.POSTGRES and self._day not in (yield from known_days()):
            yield from self._admit()
            yield from ensure_days(self._storage, [self._day])
        inserted = yield from execute(
            INSERT_ONE, {**self._parameters, "tolerance": self._tolerance}
        )
        if not inserted.count:
            yield from self._admit()
            found = yield from conflicts(
                COMPARE_ONE, lambda _: called(row_of(self._record)), self._parameters
            )
            if found:
                raise found[0]
        return self._record.id

    def steps_on_a_new_day(self) -> Steps[UUID]:
        yield from forget_days(self._storage, [self._day])
        return (yield from self.steps())

    def _admit(self) -> Steps[None]:
        refusal = (yield from admission(self._tolerance)).refusal(self._record.timestamp)
        if refusal is not None:
            raise InvalidRecord(refusal)
