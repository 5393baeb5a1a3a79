"""What a verification of the billing ledger found, task by task, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from ledger.maintenance.verification.data import DataReport
from ledger.maintenance.verification.findings import Finding, Severity
from ledger.maintenance.verification.indexes import IndexReport
from ledger.maintenance.verification.schema import SchemaReport
from ledger.maintenance.verification.timings import PerformanceReport
from ledger.records.plain import Record, plain


class Status(StrEnum):
    """What the findings come to."""

    READY = "ready"
    WARNINGS = "warnings"
    """Ready, and with something to look into."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyticsReport(Record):
    """The four tasks."""

    database: str
    """Its URL, without the password."""
    role: str
    """Who looked."""
    at: datetime
    """When, by the database's clock."""
    schema: SchemaReport
    indexes: IndexReport
    data: DataReport
    performance: PerformanceReport

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them, in the order of the tasks."""
        tasks = (self.schema, self.indexes, self.data, self.performance)
        return tuple(finding for task in tasks for finding in task.findings)

    @property
    def status(self) -> Status:
        """The worst of the findings; what was not looked at does not count."""
        found = {finding.severity for finding in self.findings}
        if Severity.FAILURE in found:
            return Status.FAILED
        return Status.WARNINGS if Severity.WARNING in found else Status.READY

    @property
    def is_ready(self) -> bool:
        """Whether nothing failed."""
        return self.status is not Status.FAILED

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON; the findings are told with their task."""
        # Not super(): a slotted dataclass is another class than the one that super() remembers.
        return {
            "status": plain(self.status),
            "is_ready": self.is_ready,
            **Record.to_dict(self),
        }
