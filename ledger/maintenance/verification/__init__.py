"""Whether the billing ledger can answer what a dashboard asks: schema, indexes, data, speed."""

from ledger.maintenance.verification.findings import Finding, Severity
from ledger.maintenance.verification.indexes import UNUSED_AFTER, UnusedAfter
from ledger.maintenance.verification.limits import LIMITS, Limits
from ledger.maintenance.verification.report import AnalyticsReport, Status
from ledger.maintenance.verification.timings import Verdict
from ledger.maintenance.verification.verify import verify_analytics

__all__ = [
    "LIMITS",
    "UNUSED_AFTER",
    "AnalyticsReport",
    "Finding",
    "Limits",
    "Severity",
    "Status",
    "UnusedAfter",
    "Verdict",
    "verify_analytics",
]
