"""What keeps the books current and true: partitions, refresh, retention, reconciliation."""

from ledger.maintenance.maintenance import AsyncMaintenance, Maintenance
from ledger.maintenance.reconciliation import Difference, Reconciliation
from ledger.maintenance.report import MaintenanceReport

__all__ = [
    "AsyncMaintenance",
    "Difference",
    "Maintenance",
    "MaintenanceReport",
    "Reconciliation",
]
