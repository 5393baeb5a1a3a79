"""Any number of records, in batches of one size."""

from __future__ import annotations

from collections.abc import AsyncIterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from ledger.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

BATCH_SIZE: Final = 5_000


def checked(batch_size: int) -> int:
    if batch_size < 1:
        raise InvalidArgument(f"batch_size {batch_size}: a batch has at least one record")
    return batch_size


def batches(records: Iterable[object], size: int) -> Iterator[list[object]]:
    remaining = iter(records)
    while batch := list(islice(remaining, size)):
        yield batch


async def batches_async(
    records: Iterable[object] | AsyncIterable[object], size: int
) -> AsyncIterator[list[object]]:
    if not isinstance(records, AsyncIterable):
        for batch in batches(records, size):
            yield batch
        return
    batch = []
    async for record in records:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
