"""How this database was installed, and how far its rollups have come."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from ledger.models.base import Base


class Installation(Base):
    """The one row that says which storage and encoding every later command must use."""

    __tablename__ = "installation"
    __table_args__ = (
        CheckConstraint("is_installed", name="singleton"),
        CheckConstraint("storage IN ('timescale', 'postgres')", name="storage"),
        CheckConstraint("percentiles IN ('uddsketch', 'histogram')", name="percentiles"),
    )

    is_installed: Mapped[bool] = mapped_column(
        Boolean, primary_key=True, server_default=text("true")
    )
    storage: Mapped[str] = mapped_column(Text)
    percentiles: Mapped[str] = mapped_column(Text)
    bins_version: Mapped[int] = mapped_column(Integer)
    retention: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    """Relation -> how long its rows are kept, as PostgreSQL writes an interval: the wish."""
    installed_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=text("now()")
    )


class RollupProgress(Base):
    """How far the rollups of a time series have come."""

    __tablename__ = "rollup_progress"

    source: Mapped[str] = mapped_column(Text, primary_key=True)
    raw_from: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=text("'-infinity'::timestamptz")
    )
    """Raw rows before this moment may be gone."""
    watermark: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=text("'-infinity'::timestamptz")
    )
    """Every hour before this moment was rolled up; later ones are read from the raw rows."""
