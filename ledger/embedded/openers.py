"""Who has a folder open, kept by the kernel, so that a killed process is forgotten at once.

Two locks. The turn is held for as long as one process starts or stops the server. The openers'
lock is held shared by each that uses the server, and alone by who stops it: the last opener, or
the guardian once every opener is gone.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from ledger.embedded.errors import EmbeddedFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ledger.embedded.account import Account

TURN_LOCK = "turn.lock"

PATIENCE_SECONDS = 120.0
"""Longer than a start with crash recovery, or a stop, takes; then the other process hangs."""


class Openers:
    """One opener's hold on a folder."""

    def __init__(self, folder: Path, account: Account) -> None:
        self.lock_path = folder / "openers.lock"
        self._turn = account.open_file(folder / TURN_LOCK)
        self._openers = account.open_file(self.lock_path)

    @contextmanager
    def turn(self) -> Iterator[Self]:
        """Keep every other opener from starting and stopping meanwhile."""
        self._wait_for(self._turn, fcntl.LOCK_EX)
        try:
            yield self
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def join(self) -> None:
        """Count as an opener, once a guardian that is stopping the server is done."""
        self._wait_for(self._openers, fcntl.LOCK_SH)

    def leave(self) -> bool:
        """Count no more; whether we were the last, and hold the folder alone until closed."""
        if _try(self._openers, fcntl.LOCK_EX):
            return True
        # The attempt gave up our shared hold, so that a guardian may have taken over: this
        # waits until it has stopped the server, and not at all where there are other openers.
        self._wait_for(self._openers, fcntl.LOCK_SH)
        return False

    def close(self) -> None:
        os.close(self._openers)
        os.close(self._turn)

    def _wait_for(self, lock: int, operation: int) -> None:
        # Polled, as a wait in the kernel has no limit.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _try(lock, operation):
            if time.monotonic() > deadline:
                raise EmbeddedFailed(
                    f"another process has been starting or stopping the PostgreSQL in"
                    f" {self.lock_path.parent} for {PATIENCE_SECONDS:.0f} s"
                )
            time.sleep(0.01)


def _try(lock: int, operation: int) -> bool:
    try:
        fcntl.flock(lock, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
