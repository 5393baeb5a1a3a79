"""Batches of which the database refuses a record: it is found by halves, and the rest go in."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from ledger.write.faults import blames_a_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.write.commands import Plan

Record = TypeVar("Record")
Refused = TypeVar("Refused")


def by_halves(
    records: dict[int, Record],
    store: Callable[[dict[int, Record]], Plan[dict[int, Refused]]],
    refuse: Callable[[int, Record, Exception], Refused],
) -> Plan[dict[int, Refused]]:
    """Store records, by their place, and give those that were refused.

    Raises what is no record's fault.
    """
    if not records:
        return {}
    try:
        return (yield from store(records))
    except Exception as error:
        if not blames_a_row(error):
            raise
        if len(records) == 1:
            ((index, record),) = records.items()
            return {index: refuse(index, record, error)}
    half = len(records) // 2
    first = yield from by_halves(dict(islice(records.items(), half)), store, refuse)
    rest = dict(islice(records.items(), half, None))
    return first | (yield from by_halves(rest, store, refuse))
