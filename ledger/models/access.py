"""Which database role may see what."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Text, Uuid, text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from ledger.models.base import Base


class RoleScope(Base):
    """One thing a role may see: a user's rows, a project's, or, for some kinds, all of them."""

    __tablename__ = "role_scopes"
    __table_args__ = (
        CheckConstraint("kind IN ('reader', 'writer', 'service', 'auditor')", name="kind"),
        CheckConstraint("(kind = 'reader') = (user_id IS NOT NULL)", name="user"),
        CheckConstraint("project_id IS NULL OR kind = 'auditor'", name="project"),
        Index(
            "role_scopes_role_kind_user_id_project_id_key",
            "role",
            "kind",
            "user_id",
            "project_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
    )

    id: Mapped[UUID] = mapped_column(
        Uuid, primary_key=True, server_default=text("gen_random_uuid()")
    )
    role: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    user_id: Mapped[UUID | None] = mapped_column(Uuid)
    project_id: Mapped[UUID | None] = mapped_column(Uuid)
    granted_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=text("now()")
    )
