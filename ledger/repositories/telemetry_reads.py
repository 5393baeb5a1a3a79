"""The questions of the telemetry ledger as methods, one line each."""

from __future__ import annotations

from ledger.queries import telemetry
from ledger.repositories.methods import reads


class TelemetryReads:
    """What can be asked of the telemetry ledger."""

    overview = reads(telemetry.overview)
    time_series = reads(telemetry.time_series)
    provider_model_latency = reads(telemetry.provider_model_latency)
    daily_model_cost = reads(telemetry.daily_model_cost)
    error_rate = reads(telemetry.error_rate)
