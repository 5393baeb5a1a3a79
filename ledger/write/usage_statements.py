"""The statements that book usage and find out what became of it.

Roles that may only insert can execute all of them.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Column, Executable, Text, case, column, func, select, true
from sqlalchemy.dialects.postgresql import insert

from ledger.models.base import SCHEMA, Money
from ledger.models.billing import TokenUsage
from ledger.write.recordset import POSITION, comparison, given

_USAGE: Final = TokenUsage.metadata.tables[f"{SCHEMA}.{TokenUsage.__tablename__}"]
_BOOKED: Final = tuple(each.name for each in _USAGE.columns if each.name != "recorded_at")
_KEY: Final = ("user_id", "request_id")
_SENT: Final = (
    "kind",
    "provider_id",
    "model_id",
    "operation",
    "project_id",
    "status",
    "service_tier",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage_source",
    "latency_ms",
    "created_at",
    "attributes",
)
"""What is compared; not what is worked out, as a price may have come since."""

_given: Final = given(
    [
        *(_USAGE.c[name] for name in _BOOKED),
        Column("sent_tier", Text),
        Column("sent_cost", Money),
    ]
)

INSERT: Final[Executable] = (
    insert(_USAGE)
    .from_select(
        _BOOKED,
        # In the order of the key: two writers of the same keys would deadlock.
        select(*(_given.c[name] for name in _BOOKED)).order_by(
            *(_given.c[name] for name in _KEY), _given.c[POSITION]
        ),
    )
    .on_conflict_do_nothing()
    .execution_options(preserve_rowcount=True)
)

_sent = select(*_given.c).cte("sent").prefix_with("MATERIALIZED", dialect="postgresql")
_keys = select(*(_sent.c[name] for name in _KEY)).distinct().subquery("keys")
_asked = select(*(func.array_agg(_keys.c[name]).label(name) for name in _KEY)).cte("asked")
_found: Any = (
    getattr(func, SCHEMA)
    .usage_by_key(*(_asked.c[name] for name in _KEY))
    .table_valued(*(column(each.name, each.type) for each in _USAGE.columns), name="found")
)
_stored = select(*_found.c).select_from(_asked.join(_found, true())).cte("stored")

_stated_cost = case(
    (_stored.c.pricing_status == "stated", _stored.c.vendor_cost), else_=_stored.c.stated_cost
)
COMPARE: Final = comparison(
    _sent,
    _stored,
    _KEY,
    {
        **{name: _stored.c[name].is_distinct_from(_sent.c[name]) for name in _SENT},
        "tier": _sent.c.sent_tier != _stored.c.tier,
        "vendor_cost": _stated_cost.is_distinct_from(_sent.c.sent_cost),
    },
)

STORED: Final[Executable] = select(*_stored.c)
"""What is stored under the keys of the given rows."""
