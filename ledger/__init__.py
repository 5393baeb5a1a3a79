"""Exact, queryable books of a backend's use of language models, on PostgreSQL and TimescaleDB."""

from ledger.errors import (
    AppendOnlyViolation,
    ConflictingRecord,
    DatabaseUnavailable,
    DataLossRefused,
    DiskFull,
    ExportFailed,
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
    UnknownReference,
)
from ledger.pricing.payloads import tokens_of
from ledger.pricing.service_tiers import service_tier_of
from ledger.queries.errors import RawRowsGone, TooManyBuckets
from ledger.queries.scope import ALL_USERS, AllUsers
from ledger.records.billing import (
    CostBucket,
    CostDistribution,
    GrossMargin,
    MarginDay,
    MarginTotals,
    ModelCost,
    ProviderCost,
    UnpricedUsage,
    UserCost,
)
from ledger.records.billing_reconciliation import BillingReconciliation
from ledger.records.prices import ModelPrice, Priced, PricedTokens, Unpriced
from ledger.records.report import Rejected, WriteReport
from ledger.records.repricing import RepricedModel, Repricing
from ledger.records.telemetry import (
    Answer,
    DailyModelCost,
    ModelErrorRate,
    ModelLatency,
    Overview,
    TimeBucket,
)
from ledger.records.tokens import TokenCounts
from ledger.records.transaction import Transaction
from ledger.records.usage import BookedUsage, Charging, Usage
from ledger.repositories.async_ledger import AsyncLedger
from ledger.repositories.ledger import Ledger
from ledger.settings import Percentiles, Settings, Storage
from ledger.window import Interval, Window

__all__ = [
    "ALL_USERS",
    "AllUsers",
    "Answer",
    "AppendOnlyViolation",
    "AsyncLedger",
    "BillingReconciliation",
    "BookedUsage",
    "Charging",
    "ConflictingRecord",
    "CostBucket",
    "CostDistribution",
    "DailyModelCost",
    "DataLossRefused",
    "DatabaseUnavailable",
    "DiskFull",
    "ExportFailed",
    "ForeignSchema",
    "GrossMargin",
    "Interval",
    "InvalidArgument",
    "InvalidRecord",
    "InvalidSettings",
    "Ledger",
    "LedgerError",
    "MarginDay",
    "MarginTotals",
    "MigrationFailed",
    "ModelCost",
    "ModelErrorRate",
    "ModelLatency",
    "ModelPrice",
    "Overview",
    "Percentiles",
    "PermissionMissing",
    "Priced",
    "PricedTokens",
    "ProviderCost",
    "RawRowsGone",
    "Rejected",
    "RepricedModel",
    "Repricing",
    "RetentionRefused",
    "SchemaNotReady",
    "Settings",
    "Storage",
    "StorageMismatch",
    "TimeBucket",
    "TokenCounts",
    "TooManyBuckets",
    "Transaction",
    "UnknownReference",
    "Unpriced",
    "UnpricedUsage",
    "Usage",
    "UserCost",
    "Window",
    "WriteReport",
    "service_tier_of",
    "tokens_of",
]
