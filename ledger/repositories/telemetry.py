"""The telemetry ledger: every call to a language model, what it took and what it cost."""

from __future__ import annotations

from ledger.repositories.repository import AsyncRepository, Repository
from ledger.repositories.telemetry_reads import TelemetryReads
from ledger.repositories.telemetry_writes import AsyncTelemetryWrites, TelemetryWrites


class Telemetry(TelemetryReads, Repository, TelemetryWrites):
    """The telemetry ledger.

    Every method raises SchemaNotReady where the database has no ledger, and
    DatabaseUnavailable where it cannot be reached.
    """


class AsyncTelemetry(TelemetryReads, AsyncRepository, AsyncTelemetryWrites):
    """The telemetry ledger, awaited."""
