"""What a database sends, handed on to a destination in pieces; called and awaited."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, suppress
from io import BytesIO
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from psycopg.abc import Buffer

    from ledger.repositories.export_files import Destination

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

CHUNK_BYTES: Final = 1 << 18
"""Rows come one by one: to write each by itself would be a system call a row. While a piece is
written, the server goes on for as long as the socket takes what it sends; so not megabytes."""


class _Gathered:
    """What came and was not handed on yet, and how much was."""

    def __init__(
        self, destination: Destination, on_progress: Callable[[int], object] | None
    ) -> None:
        self._destination, self._on_progress = destination, on_progress
        # Filled again from its start, it grows once; a bytearray that is cleared grows each
        # time, 0.3 s in a million rows.
        self._gathered = BytesIO()
        self._waiting = self._written = 0

    def gather(self, data: Buffer) -> bool:
        """Whether it is time to flush."""
        self._waiting += self._gathered.write(data)
        return self._waiting >= CHUNK_BYTES

    def _taken(self) -> bytes:
        """What waits. A copy, as a file may keep what it is given."""
        taken = bytes(self._gathered.getbuffer()[: self._waiting])
        self._gathered.seek(0)
        self._waiting = 0
        return taken

    def _tell(self, written: int) -> None:
        self._written += written
        if self._on_progress is not None:
            self._on_progress(self._written)


class Outlet(_Gathered):
    """Gathers what comes, and hands it on; like a file to those who write to one."""

    def write(self, data: Buffer) -> None:
        if self.gather(data):
            self.flush()

    def flush(self) -> None:
        if taken := self._taken():
            self._destination.write(taken)
            self._tell(len(taken))


class AsyncOutlet(_Gathered):
    """The same, awaited: files are written in threads, and the loop goes on."""

    async def flush(self) -> None:
        if taken := self._taken():
            await _in_a_thread(self._destination.write, taken)
            self._tell(len(taken))


@contextmanager
def written_whole(
    destination: Destination, on_progress: Callable[[int], object] | None
) -> Iterator[Outlet]:
    """An outlet to a destination that shows either all of it, or, on any failure, nothing."""
    try:
        destination.open()
        outlet = Outlet(destination, on_progress)
        yield outlet
        outlet.flush()
        destination.settle()
        destination.publish()
    except BaseException:
        destination.discard()
        raise


@asynccontextmanager
async def written_whole_async(
    destination: Destination, on_progress: Callable[[int], object] | None
) -> AsyncIterator[AsyncOutlet]:
    """The same, awaited; a cancelled task is a failure like any other."""
    try:
        await _in_a_thread(destination.open)
        outlet = AsyncOutlet(destination, on_progress)
        yield outlet
        await outlet.flush()
        await _in_a_thread(destination.settle)
        # Neither of these in a thread, which goes on when who waits for it is cancelled.
        destination.publish()
    except BaseException:
        destination.discard()
        raise


async def _in_a_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """What the function gives. It has ended when this has, also where the task was cancelled.

    Otherwise a file would be closed and removed while a thread still writes to it.
    """
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        running.exception()  # looked at, or asyncio complains that nobody did
        raise
