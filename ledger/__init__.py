"""Exact, queryable books of a backend's use of language models, on PostgreSQL and TimescaleDB."""

from ledger.errors import (
    ConflictingRecord,
    DatabaseUnavailable,
    DataLossRefused,
    DiskFull,
    ForeignSchema,
    InvalidArgument,
    InvalidRecord,
    InvalidSettings,
    LedgerError,
    MigrationFailed,
    PermissionMissing,
    RetentionRefused,
    SchemaNotReady,
    StorageMismatch,
)
from ledger.queries.errors import RawRowsGone, TooManyBuckets
from ledger.queries.scope import ALL_USERS, AllUsers
from ledger.records.report import Rejected, WriteReport
from ledger.records.telemetry import (
    Answer,
    DailyModelCost,
    ModelErrorRate,
    ModelLatency,
    Overview,
    TimeBucket,
)
from ledger.records.transaction import Transaction
from ledger.repositories.async_ledger import AsyncLedger
from ledger.repositories.ledger import Ledger
from ledger.settings import Percentiles, Settings, Storage
from ledger.window import Interval, Window

__all__ = [
    "ALL_USERS",
    "AllUsers",
    "Answer",
    "AsyncLedger",
    "ConflictingRecord",
    "DailyModelCost",
    "DataLossRefused",
    "DatabaseUnavailable",
    "DiskFull",
    "ForeignSchema",
    "Interval",
    "InvalidArgument",
    "InvalidRecord",
    "InvalidSettings",
    "Ledger",
    "LedgerError",
    "MigrationFailed",
    "ModelErrorRate",
    "ModelLatency",
    "Overview",
    "Percentiles",
    "PermissionMissing",
    "RawRowsGone",
    "Rejected",
    "RetentionRefused",
    "SchemaNotReady",
    "Settings",
    "Storage",
    "StorageMismatch",
    "TimeBucket",
    "TooManyBuckets",
    "Transaction",
    "Window",
    "WriteReport",
]
