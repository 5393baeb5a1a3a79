"""Who uses models and who serves them: users and their tiers, providers, projects.

Small tables that a host application fills from its own, under its own ids.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from ledger.models.base import Base, Multiplier

_DRAWN = text("gen_random_uuid()")
_NOW = text("now()")


class Tier(Base):
    """What a tier's users are charged, from some moment on; the row before holds until then."""

    __tablename__ = "tiers"
    __table_args__ = (
        UniqueConstraint("name", "effective_from"),
        CheckConstraint("name <> ''", name="name"),
        CheckConstraint("margin_multiplier >= 0 AND margin_multiplier <> 'NaN'", name="multiplier"),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, server_default=_DRAWN)
    name: Mapped[str] = mapped_column(Text)
    effective_from: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    margin_multiplier: Mapped[Decimal] = mapped_column(Multiplier)
    """What a dollar of the provider's is charged at: 1.5 is half as much again."""
    recorded_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=_NOW)


class User(Base):
    """Whoever is charged. The tier is today's; a usage keeps the one it was booked with."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("external_id"),
        CheckConstraint("tier <> '' AND external_id <> ''", name="names"),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, server_default=_DRAWN)
    external_id: Mapped[str | None] = mapped_column(Text)
    tier: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=_NOW)


class Provider(Base):
    """Whoever serves models, by the name that the telemetry ledger has."""

    __tablename__ = "providers"
    __table_args__ = (
        UniqueConstraint("name"),
        UniqueConstraint("external_id"),
        CheckConstraint("name <> '' AND external_id <> ''", name="names"),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, server_default=_DRAWN)
    external_id: Mapped[str | None] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=_NOW)


class Project(Base):
    """What calls are made for, across users."""

    __tablename__ = "projects"
    __table_args__ = (
        UniqueConstraint("external_id"),
        CheckConstraint("name <> '' AND external_id <> ''", name="names"),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, server_default=_DRAWN)
    external_id: Mapped[str | None] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=_NOW)
