"""`token_usage_ledger`: every call as it was billed, and every correction, a row each."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from ledger.models.base import SCHEMA, Base, Moment, Money, Multiplier
from ledger.models.billing_checks import usage_checks

STATUSES: Final = ("success", "failed", "cancelled")

_SUMMED: Final = (
    "vendor_cost",
    "charge_usd",
    "credits_deducted",
    "input_tokens",
    "output_tokens",
)


class TokenUsage(Base):
    """A call as it was billed; or, of another kind, what was corrected of one later.

    Rows are added and never changed. Tokens and money of a call are not negative, and whole;
    those of an adjustment or a refund are the difference, of either sign.
    """

    __tablename__ = "token_usage_ledger"
    __table_args__ = (
        UniqueConstraint("user_id", "request_id"),
        ForeignKeyConstraint(
            ["user_id", "adjusts_id"],
            [f"{SCHEMA}.token_usage_ledger.user_id", f"{SCHEMA}.token_usage_ledger.id"],
            ondelete="RESTRICT",
        ),
        Index(
            "idx_token_usage_success",
            "created_at",
            postgresql_include=["provider_id", *_SUMMED],
            postgresql_where=text("status = 'success' AND kind = 'usage'"),
        ),
        Index(
            "idx_token_usage_unsuccessful",
            "created_at",
            postgresql_include=["provider_id", "status", *_SUMMED],
            postgresql_where=text("status <> 'success' AND kind = 'usage'"),
        ),
        Index(
            "idx_token_usage_analytics",
            "user_id",
            "created_at",
            postgresql_include=["provider_id", "model_id", "status", "tier", *_SUMMED],
            postgresql_where=text("kind = 'usage'"),
        ),
        Index(
            "idx_token_usage_project",
            "project_id",
            "created_at",
            postgresql_where=text("project_id IS NOT NULL"),
        ),
        Index(
            "idx_token_usage_unpriced",
            "created_at",
            postgresql_where=text("pricing_status = 'unpriced'"),
        ),
        Index(
            "idx_token_usage_corrections",
            "created_at",
            postgresql_where=text("kind <> 'usage'"),
        ),
        Index(
            "idx_token_usage_restated",
            "adjusts_created_at",
            postgresql_where=text("kind <> 'usage'"),
        ),
        Index(
            "idx_token_usage_corrected",
            "user_id",
            "adjusts_id",
            postgresql_where=text("kind <> 'usage'"),
        ),
        *usage_checks(),
    )

    user_id: Mapped[UUID] = mapped_column(
        ForeignKey(f"{SCHEMA}.users.id", ondelete="RESTRICT"), primary_key=True
    )
    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    """A UUIDv7 of created_at, derived from user and request_id as in `llm_requests`."""
    request_id: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    adjusts_id: Mapped[UUID | None] = mapped_column(Uuid)
    adjusts_created_at: Mapped[datetime | None] = mapped_column(Moment)
    """When the corrected call was made, for books that are shown restated."""
    provider_id: Mapped[UUID] = mapped_column(
        ForeignKey(f"{SCHEMA}.providers.id", ondelete="RESTRICT")
    )
    model_id: Mapped[str] = mapped_column(Text)
    operation: Mapped[str | None] = mapped_column(Text)
    project_id: Mapped[UUID | None] = mapped_column(
        ForeignKey(f"{SCHEMA}.projects.id", ondelete="RESTRICT")
    )
    status: Mapped[str] = mapped_column(Text)
    tier: Mapped[str] = mapped_column(Text)
    service_tier: Mapped[str] = mapped_column(Text)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    usage_source: Mapped[str] = mapped_column(Text)
    latency_ms: Mapped[int | None] = mapped_column(Integer)
    pricing_status: Mapped[str] = mapped_column(Text)
    """`priced` by a row of model_prices, `stated` by the caller, or `unpriced`."""
    unpriced_reason: Mapped[str | None] = mapped_column(Text)
    price_id: Mapped[UUID | None] = mapped_column(
        ForeignKey(f"{SCHEMA}.model_prices.id", ondelete="RESTRICT")
    )
    vendor_cost: Mapped[Decimal | None] = mapped_column(Money)
    """US dollars that the provider asks."""
    margin_multiplier: Mapped[Decimal | None] = mapped_column(Multiplier)
    credit_value_usd: Mapped[Decimal] = mapped_column(Money)
    credits_deducted: Mapped[int | None] = mapped_column(BigInteger)
    charge_usd: Mapped[Decimal | None] = mapped_column(Money)
    gross_margin_usd: Mapped[Decimal | None] = mapped_column(Money)
    created_at: Mapped[datetime] = mapped_column(Moment)
    """When the call was made, or its correction booked."""
    recorded_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=text("now()")
    )
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB)
    stated_cost: Mapped[Decimal | None] = mapped_column(Money)
    """What the caller stated for a call that is unpriced all the same, as its tier has no
    multiplier yet; repricing books it."""
