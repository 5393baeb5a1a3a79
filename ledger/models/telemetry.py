"""`llm_requests`, one row a call to a language model, and its rollups by minute and hour."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    SmallInteger,
    TableClause,
    Text,
    Uuid,
    text,
)
from sqlalchemy import table as lightweight_table
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from ledger.models.base import SCHEMA, Base, Moment, Money
from ledger.models.latency import sketch_type
from ledger.settings import Percentiles, Storage

IS_ERROR: Final = "http_status_code >= 400 OR error_type IS NOT NULL"


class LLMRequest(Base):
    """One call, as it was made and answered."""

    __tablename__ = "llm_requests"
    __table_args__ = (
        CheckConstraint('ledger.uuid_time(id) = "timestamp"', name="id_time"),
        CheckConstraint("provider <> '' AND model <> ''", name="names"),
        CheckConstraint("latency_ms >= 0", name="latency"),
        CheckConstraint(
            "time_to_first_token_ms BETWEEN 0 AND latency_ms", name="time_to_first_token"
        ),
        CheckConstraint(
            "input_tokens >= 0 AND cache_read_tokens >= 0 AND cache_write_tokens >= 0"
            " AND cache_read_tokens::bigint + cache_write_tokens <= input_tokens",
            name="input_tokens",
        ),
        CheckConstraint(
            "output_tokens >= 0 AND reasoning_tokens BETWEEN 0 AND output_tokens",
            name="output_tokens",
        ),
        CheckConstraint("cost_usd >= 0 AND cost_usd <> 'NaN'", name="cost"),
        CheckConstraint("http_status_code BETWEEN 100 AND 599", name="http_status_code"),
        # A model says its provider, or nearly: with the provider in front, ingest kept 0.9 of
        # what it keeps without.
        Index("llm_requests_model_idx", "model", "timestamp"),
        Index(
            "llm_requests_category_idx",
            "category",
            "timestamp",
            postgresql_where=text("category IS NOT NULL"),
        ),
        Index(
            "llm_requests_errors_idx",
            "http_status_code",
            "timestamp",
            postgresql_where=text(IS_ERROR),
        ),
        Index("llm_requests_timestamp_idx", "timestamp", postgresql_using="brin"),
    )

    user_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(Moment, primary_key=True)
    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    request_id: Mapped[str | None] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    response_model: Mapped[str | None] = mapped_column(Text)
    operation: Mapped[str | None] = mapped_column(Text)
    category: Mapped[str | None] = mapped_column(Text)
    latency_ms: Mapped[int] = mapped_column(Integer)
    time_to_first_token_ms: Mapped[int | None] = mapped_column(Integer)
    input_tokens: Mapped[int] = mapped_column(Integer)
    output_tokens: Mapped[int] = mapped_column(Integer)
    reasoning_tokens: Mapped[int] = mapped_column(Integer)
    cache_read_tokens: Mapped[int] = mapped_column(Integer)
    cache_write_tokens: Mapped[int] = mapped_column(Integer)
    cost_usd: Mapped[Decimal | None] = mapped_column(Money)
    http_status_code: Mapped[int | None] = mapped_column(SmallInteger)
    error_type: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    is_streaming: Mapped[bool] = mapped_column(Boolean)
    service_tier: Mapped[str | None] = mapped_column(Text)
    session_id: Mapped[str | None] = mapped_column(Text)
    agent_id: Mapped[str | None] = mapped_column(Text)
    project_id: Mapped[UUID | None] = mapped_column(Uuid)
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB)


MINUTE_ROLLUP: Final = "llm_metrics_1m"
HOUR_ROLLUP: Final = "llm_metrics_1h"

KEYS: Final = ("user_id", "provider", "model")

MEASURES: Final = {
    "requests": "count(*)",
    "errors": f"count(*) FILTER (WHERE {IS_ERROR})",
    "rate_limited": "count(*) FILTER (WHERE http_status_code = 429)",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "reasoning_tokens": "sum(reasoning_tokens)",
    "cache_read_tokens": "sum(cache_read_tokens)",
    "cache_write_tokens": "sum(cache_write_tokens)",
    "cost_usd": "coalesce(sum(cost_usd), 0)",
    "unpriced_requests": "count(*) FILTER (WHERE cost_usd IS NULL)",
    "latency_sum_ms": "sum(latency_ms)",
}
"""What a rollup adds up, and how it is made of raw rows; merging is always a sum."""


def rollup(name: str, encoding: Percentiles) -> TableClause:
    """A rollup as queries see it: bucket, keys, sums, and the latency sketch."""
    sums = (Column(measure, Money if measure == "cost_usd" else BigInteger) for measure in MEASURES)
    return lightweight_table(
        name,
        Column("bucket", TIMESTAMP(timezone=True)),
        Column("user_id", Uuid),
        Column("provider", Text),
        Column("model", Text),
        *sums,
        Column("latency_sketch", sketch_type(encoding)),
        schema=SCHEMA,
    )


def materialized(name: str, storage: Storage) -> str:
    """The relation that holds only what was rolled up.

    A continuous aggregate has one name for both, and reads below the watermark are served
    from what is materialised.
    """
    return name if storage is Storage.TIMESCALE else f"{name}_materialized"


TOUCHED: Final = lightweight_table(
    "llm_requests_touched",
    Column("hour", TIMESTAMP(timezone=True)),
    Column("user_id", Uuid),
    schema=SCHEMA,
)
"""Plain PostgreSQL's log of hours whose rollups are older than their rows."""
