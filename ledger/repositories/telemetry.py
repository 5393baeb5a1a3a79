"""The telemetry ledger: every call to a language model, what it took and what it cost."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.repositories.binding import AsyncBindable, Bindable
from ledger.repositories.expected import ANY, Expected
from ledger.repositories.repository import AsyncRepository, Repository
from ledger.repositories.telemetry_reads import TelemetryReads
from ledger.repositories.telemetry_writes import AsyncTelemetryWrites, TelemetryWrites

FUTURE_TOLERANCE: Final = timedelta(minutes=5)


class Telemetry(TelemetryReads, Repository, TelemetryWrites):
    """The telemetry ledger.

    Every method raises SchemaNotReady where the database has no ledger, and
    DatabaseUnavailable where it cannot be reached.
    """

    def __init__(
        self,
        source: Engine | Bindable,
        *,
        reading: Engine | None = None,
        expected: Expected = ANY,
        future_tolerance: timedelta = FUTURE_TOLERANCE,
    ) -> None:
        """Rows further ahead of the clock than ``future_tolerance`` are rejected."""
        super().__init__(source, reading=reading, expected=expected)
        self._future_tolerance = future_tolerance


class AsyncTelemetry(TelemetryReads, AsyncRepository, AsyncTelemetryWrites):
    """The telemetry ledger, awaited."""

    def __init__(
        self,
        source: AsyncEngine | AsyncBindable,
        *,
        reading: AsyncEngine | None = None,
        expected: Expected = ANY,
        future_tolerance: timedelta = FUTURE_TOLERANCE,
    ) -> None:
        """Rows further ahead of the clock than ``future_tolerance`` are rejected."""
        super().__init__(source, reading=reading, expected=expected)
        self._future_tolerance = future_tolerance
