"""What this version of the ledger wants the database to have, beyond its tables."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from ledger.ddl.declared_routines import RAW_FROM, REQUESTS_BY_KEY, USAGE_BY_KEY, UUID_TIME
from ledger.ddl.objects import (
    AppendOnly,
    Columnstore,
    DatabaseObject,
    ExecutionChain,
    Fold,
    KeptRows,
    LatencyFunctions,
    Refresh,
    Retention,
    Rollup,
    RowPolicy,
    RunningSums,
    TimeSeries,
    View,
)
from ledger.ddl.scopes import (
    MY_PROJECTS,
    MY_SCOPES,
    SCOPED_PROJECTS,
    SCOPED_USERS,
    SEES_ALL,
    VISIBLE,
    VISIBLE_USAGE,
)
from ledger.models.audit import Execution, ExecutionErasure, ExecutionHead
from ledger.models.audit_sums import (
    EXECUTION_CONTRIBUTIONS,
    EXECUTION_COST_BINS,
    EXECUTION_COSTS,
    EXECUTION_DAYS,
    EXECUTION_DELTAS,
    EXECUTION_KEYS,
    EXECUTION_SUMS,
)
from ledger.models.billing import TokenUsage
from ledger.models.billing_sums import (
    ALL_COSTS,
    CONTRIBUTIONS,
    COST_BINS,
    COSTS,
    DAYS,
    DELTAS,
    HOURS,
    MODEL_DAYS,
    SUM_KEYS,
    SUMS,
    USER_CONTRIBUTIONS,
    USER_DAYS,
    USER_DELTAS,
    USER_KEYS,
)
from ledger.models.latency import BINS_VERSION
from ledger.models.prices import ModelPrice
from ledger.models.telemetry import HOUR_ROLLUP, KEYS, MEASURES, MINUTE_ROLLUP, LLMRequest
from ledger.models.tenancy import Project, Provider, Tier, User

_REQUESTS: Final = LLMRequest.__tablename__
_USAGE: Final = TokenUsage.__tablename__
_EXECUTIONS: Final = Execution.__tablename__
_HEADS: Final = ExecutionHead.__tablename__
_ERASURES: Final = ExecutionErasure.__tablename__

_EXECUTION_KEY_NAMES: Final = tuple(name for name, _ in EXECUTION_KEYS)
_SUM_NAMES: Final = tuple(name for name, _, _ in SUMS)
_SUM_KEY_NAMES: Final = tuple(name for name, _ in SUM_KEYS)

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)

DECLARED: Final[tuple[DatabaseObject, ...]] = (
    UUID_TIME,
    LatencyFunctions(bins_version=BINS_VERSION),
    RAW_FROM,
    TimeSeries(name=_REQUESTS, time_column="timestamp", chunk=timedelta(days=1)),
    REQUESTS_BY_KEY,
    Rollup(
        name=MINUTE_ROLLUP,
        source=_REQUESTS,
        series=_REQUESTS,
        time_column="timestamp",
        bucket=timedelta(minutes=1),
        keys=KEYS,
        measures=tuple(MEASURES.items()),
        latency="latency_ms",
    ),
    Rollup(
        name=HOUR_ROLLUP,
        source=MINUTE_ROLLUP,
        series=_REQUESTS,
        time_column="bucket",
        bucket=timedelta(hours=1),
        keys=KEYS,
        measures=tuple((measure, f"sum({measure})") for measure in MEASURES),
        latency="latency_sketch",
    ),
    Refresh(
        name="refresh_metrics",
        series=_REQUESTS,
        rollups=(MINUTE_ROLLUP, HOUR_ROLLUP),
        every=timedelta(minutes=1),
        settle=timedelta(minutes=5),
    ),
    Columnstore(name=_REQUESTS, segment_by="user_id", order_by='"timestamp" DESC, id', after=_WEEK),
    Columnstore(name=MINUTE_ROLLUP, segment_by="user_id", order_by="bucket DESC", after=_WEEK),
    Columnstore(name=HOUR_ROLLUP, segment_by="user_id", order_by="bucket DESC", after=_WEEK),
    Retention(name=_REQUESTS, keep=timedelta(days=90)),
    Retention(name=MINUTE_ROLLUP, keep=timedelta(days=90)),
    Retention(name=HOUR_ROLLUP, keep=timedelta(days=730)),
    View(name="my_scopes", query=MY_SCOPES),
    SCOPED_USERS,
    SEES_ALL,
    *VISIBLE,
    AppendOnly(name=Tier.__tablename__),
    AppendOnly(name=ModelPrice.__tablename__),
    AppendOnly(name=_USAGE),
    RowPolicy(name=_USAGE),
    USAGE_BY_KEY,
    VISIBLE_USAGE,
    RunningSums(
        name=DELTAS,
        table=_USAGE,
        trigger=f"{_USAGE}_adds_to_sums",
        contributions=CONTRIBUTIONS,
        keys=SUM_KEYS,
        measures=(*SUMS, COST_BINS),
        folds=(
            Fold(name=HOURS, bucket=_HOUR, keys=("provider_id", "status"), measures=_SUM_NAMES),
            Fold(name=DAYS, bucket=_DAY, keys=("provider_id", "status"), measures=_SUM_NAMES),
            Fold(name=MODEL_DAYS, bucket=_DAY, keys=_SUM_KEY_NAMES, measures=_SUM_NAMES),
            Fold(name=COSTS, bucket=_DAY, keys=_SUM_KEY_NAMES, measures=(), element="cost_bins"),
            Fold(name=ALL_COSTS, bucket=_DAY, keys=("status",), measures=(), element="cost_bins"),
        ),
    ),
    RunningSums(
        name=USER_DELTAS,
        table=_USAGE,
        trigger=f"{_USAGE}_adds_to_user_sums",
        contributions=USER_CONTRIBUTIONS,
        keys=USER_KEYS,
        measures=SUMS,
        folds=(
            Fold(
                name=USER_DAYS,
                bucket=_DAY,
                keys=("user_id", "status"),
                measures=_SUM_NAMES,
                found_by=("user_id",),
            ),
        ),
    ),
    View(name="my_projects", query=MY_PROJECTS),
    SCOPED_PROJECTS,
    ExecutionChain(name=_EXECUTIONS),
    AppendOnly(name=_EXECUTIONS, guard="guard_execution"),
    AppendOnly(name=_HEADS, guard="guard_head"),
    AppendOnly(name=_ERASURES),
    RowPolicy(name=_EXECUTIONS, rule="users and projects"),
    RowPolicy(name=_HEADS, rule="projects"),
    RowPolicy(name=_ERASURES, rule="projects"),
    RunningSums(
        name=EXECUTION_DELTAS,
        table=_EXECUTIONS,
        trigger=f"{_EXECUTIONS}_adds_to_sums",
        contributions=EXECUTION_CONTRIBUTIONS,
        keys=EXECUTION_KEYS,
        measures=(*EXECUTION_SUMS, EXECUTION_COST_BINS),
        folds=(
            Fold(
                name=EXECUTION_DAYS,
                bucket=_DAY,
                keys=_EXECUTION_KEY_NAMES,
                measures=tuple(name for name, _, _ in EXECUTION_SUMS),
                found_by=("project_id",),
                led_by="agent_id",
            ),
            Fold(
                name=EXECUTION_COSTS,
                bucket=_DAY,
                keys=_EXECUTION_KEY_NAMES,
                measures=(),
                element="cost_bins",
                counted="executions",
                found_by=("project_id",),
                led_by="agent_id",
            ),
        ),
        rule="projects",
    ),
    KeptRows(
        name=Project.__tablename__,
        referred_to_by=tuple((table, "project_id") for table in (_USAGE, _EXECUTIONS, _HEADS)),
    ),
    KeptRows(
        name=Provider.__tablename__,
        referred_to_by=((ModelPrice.__tablename__, "provider_id"), (_USAGE, "provider_id")),
    ),
    KeptRows(
        name=User.__tablename__, referred_to_by=((_USAGE, "user_id"), (_EXECUTIONS, "user_id"))
    ),
)
"""In the order in which it is made; the retention is the default, the database holds the wish."""

RUNNING_SUMS: Final = tuple(target for target in DECLARED if isinstance(target, RunningSums))
(EXECUTION_RUNNING_SUMS,) = (sums for sums in RUNNING_SUMS if sums.table == _EXECUTIONS)
USAGE_SUMS: Final = tuple(sums for sums in RUNNING_SUMS if sums.table == _USAGE)
