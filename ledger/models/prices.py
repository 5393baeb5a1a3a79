"""`model_prices`: what providers ask for a million tokens, from some moment on."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from ledger.models.base import SCHEMA, Base, Money

RATES: Final = (
    "input_usd_per_million",
    "output_usd_per_million",
    "cache_read_usd_per_million",
    "cache_write_usd_per_million",
    "reasoning_usd_per_million",
)

_NO_RATE: Final = f"num_nonnulls({', '.join(RATES)}) = 0"
_SOUND_RATES: Final = " AND ".join(f"{rate} >= 0 AND {rate} <> 'NaN'" for rate in RATES)


class ModelPrice(Base):
    """One price, which holds until the next one of the same model, tier and context begins.

    There is no end to say, so no two can overlap and no gap can be left by mistake; a model
    that is no longer sold has a row that is withdrawn.
    """

    __tablename__ = "model_prices"
    __table_args__ = (
        UniqueConstraint(
            "provider_id",
            "model_id",
            "service_tier",
            "context_tokens_from",
            "effective_from",
            name="model_prices_price_key",
        ),
        CheckConstraint("model_id <> '' AND service_tier <> '' AND source <> ''", name="names"),
        CheckConstraint("context_tokens_from >= 0", name="context"),
        CheckConstraint(_SOUND_RATES, name="rates"),
        CheckConstraint(f"is_withdrawn = ({_NO_RATE})", name="withdrawn"),
    )

    id: Mapped[UUID] = mapped_column(
        Uuid, primary_key=True, server_default=text("gen_random_uuid()")
    )
    provider_id: Mapped[UUID] = mapped_column(
        ForeignKey(f"{SCHEMA}.providers.id", ondelete="RESTRICT")
    )
    model_id: Mapped[str] = mapped_column(Text)
    service_tier: Mapped[str] = mapped_column(Text)
    context_tokens_from: Mapped[int] = mapped_column(BigInteger)
    """It is asked for calls of at least so many input tokens."""
    effective_from: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    is_withdrawn: Mapped[bool] = mapped_column(Boolean)
    input_usd_per_million: Mapped[Decimal | None] = mapped_column(Money)
    output_usd_per_million: Mapped[Decimal | None] = mapped_column(Money)
    cache_read_usd_per_million: Mapped[Decimal | None] = mapped_column(Money)
    cache_write_usd_per_million: Mapped[Decimal | None] = mapped_column(Money)
    reasoning_usd_per_million: Mapped[Decimal | None] = mapped_column(Money)
    source: Mapped[str] = mapped_column(Text)
    """Where the price is from: a catalogue and its version, a file, a contract."""
    recorded_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=text("now()")
    )
