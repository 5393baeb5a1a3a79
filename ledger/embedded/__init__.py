"""A PostgreSQL in a folder: nothing to install, nothing left running."""

from ledger.embedded.errors import EmbeddedFailed, EmbeddedUnavailable
from ledger.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedFailed", "EmbeddedPostgres", "EmbeddedUnavailable"]
