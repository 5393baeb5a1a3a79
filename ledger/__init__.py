"""Exact, queryable books of a backend's use of language models, on PostgreSQL and TimescaleDB."""

from ledger.errors import (
    AppendOnlyViolation,
    BudgetExceeded,
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
    UnknownPrice,
    UnknownReference,
)
from ledger.pricing.budget import ExecutionBudget
from ledger.pricing.budget_rates import BudgetRates
from ledger.pricing.payloads import tokens_of
from ledger.pricing.price import PriceList
from ledger.pricing.service_tiers import service_tier_of
from ledger.queries.errors import RawRowsGone, TooManyBuckets
from ledger.queries.execution_filters import ExecutionFilter
from ledger.queries.execution_trees import TooManyRuns
from ledger.queries.scope import ALL_USERS, AllUsers
from ledger.records.allocation import AllocationRule, CostAllocation
from ledger.records.audit import Erasure, ExecutionPage, ExecutionRecord
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
from ledger.records.budget import BudgetMetrics
from ledger.records.checkpoint import Checkpoint, Head, InclusionProof
from ledger.records.execution import Execution
from ledger.records.execution_costs import Anomaly, StepCost, StepCosts, ToolCost, ToolCosts
from ledger.records.execution_parts import (
    CostBreakdown,
    ExecutionCost,
    ExecutionStep,
    ExecutionTrace,
)
from ledger.records.execution_statistics import AgentShare, CostStatistics, ExecutionStatistics
from ledger.records.execution_trees import ExecutionNode, ExecutionTree
from ledger.records.prices import ModelPrice, Priced, PricedTokens, Unpriced
from ledger.records.report import Rejected, WriteReport
from ledger.records.repricing import RepricedModel, Repricing
from ledger.records.signing import InvalidSignature, SigningUnavailable, require_signature
from ledger.records.signing import new_key as new_signing_key
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
from ledger.records.verification import Fault, LedgerVerification, Verification
from ledger.repositories.async_ledger import AsyncLedger
from ledger.repositories.audit_runs import AsyncRun, Run
from ledger.repositories.ledger import Ledger
from ledger.repositories.run_steps import Step
from ledger.settings import Percentiles, Settings, Storage
from ledger.window import Interval, Window

__all__ = [
    "ALL_USERS",
    "AgentShare",
    "AllUsers",
    "AllocationRule",
    "Anomaly",
    "Answer",
    "AppendOnlyViolation",
    "AsyncLedger",
    "AsyncRun",
    "BillingReconciliation",
    "BookedUsage",
    "BudgetExceeded",
    "BudgetMetrics",
    "BudgetRates",
    "Charging",
    "Checkpoint",
    "ConflictingRecord",
    "CostAllocation",
    "CostBreakdown",
    "CostBucket",
    "CostDistribution",
    "CostStatistics",
    "DailyModelCost",
    "DataLossRefused",
    "DatabaseUnavailable",
    "DiskFull",
    "Erasure",
    "Execution",
    "ExecutionBudget",
    "ExecutionCost",
    "ExecutionFilter",
    "ExecutionNode",
    "ExecutionPage",
    "ExecutionRecord",
    "ExecutionStatistics",
    "ExecutionStep",
    "ExecutionTrace",
    "ExecutionTree",
    "ExportFailed",
    "Fault",
    "ForeignSchema",
    "GrossMargin",
    "Head",
    "InclusionProof",
    "Interval",
    "InvalidArgument",
    "InvalidRecord",
    "InvalidSettings",
    "InvalidSignature",
    "Ledger",
    "LedgerError",
    "LedgerVerification",
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
    "PriceList",
    "Priced",
    "PricedTokens",
    "ProviderCost",
    "RawRowsGone",
    "Rejected",
    "RepricedModel",
    "Repricing",
    "RetentionRefused",
    "Run",
    "SchemaNotReady",
    "Settings",
    "SigningUnavailable",
    "Step",
    "StepCost",
    "StepCosts",
    "Storage",
    "StorageMismatch",
    "TimeBucket",
    "TokenCounts",
    "TooManyBuckets",
    "TooManyRuns",
    "ToolCost",
    "ToolCosts",
    "Transaction",
    "UnknownPrice",
    "UnknownReference",
    "Unpriced",
    "UnpricedUsage",
    "Usage",
    "UserCost",
    "Verification",
    "Window",
    "WriteReport",
    "new_signing_key",
    "require_signature",
    "service_tier_of",
    "tokens_of",
]
