"""`execution_ledger`: every run of an agent, a row each, in a chain of hashes a project."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from ledger.models.audit_checks import HASH_BYTES, execution_checks
from ledger.models.base import SCHEMA, Base, Moment, Money

EXECUTION_STATUSES: Final = ("completed", "failed", "aborted")

_NO_HASH: Final = text(r"E'\\x" + "00" * HASH_BYTES + "'::bytea")
_STATISTICS: Final = ["user_id", "status", "total_cost_cents", "duration_ms"]


class Execution(Base):
    """A run as it ended. Rows are added and never changed, but for payloads that are erased."""

    __tablename__ = "execution_ledger"
    __table_args__ = (
        UniqueConstraint("run_id"),
        UniqueConstraint("project_id", "sequence"),
        Index(
            "idx_execution_ledger_project",
            "project_id",
            "created_at",
            "id",
            postgresql_include=["agent_id", *_STATISTICS],
        ),
        Index("idx_execution_ledger_user", "user_id", "created_at", "id"),
        Index(
            "idx_execution_ledger_costs",
            "agent_id",
            "created_at",
            "id",
            postgresql_include=["project_id", *_STATISTICS],
        ),
        Index(
            "idx_execution_ledger_unsuccessful",
            "created_at",
            "id",
            postgresql_where=text("status <> 'completed'"),
        ),
        Index(
            "idx_execution_ledger_parent",
            "parent_run_id",
            postgresql_where=text("parent_run_id IS NOT NULL"),
        ),
        *execution_checks(),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    run_id: Mapped[str] = mapped_column(Text)
    parent_run_id: Mapped[str | None] = mapped_column(Text)
    """The run that triggered this one; no foreign key, as it is recorded when it ends."""
    project_id: Mapped[UUID] = mapped_column(
        ForeignKey(f"{SCHEMA}.projects.id", ondelete="RESTRICT")
    )
    user_id: Mapped[UUID] = mapped_column(ForeignKey(f"{SCHEMA}.users.id", ondelete="RESTRICT"))
    agent_id: Mapped[str] = mapped_column(Text)
    intent: Mapped[str] = mapped_column(Text)
    input: Mapped[dict[str, Any]] = mapped_column(JSONB)
    output: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    cost_json: Mapped[dict[str, Any]] = mapped_column(JSONB)
    execution_trace_json: Mapped[dict[str, Any]] = mapped_column(JSONB)
    status: Mapped[str] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    total_cost_cents: Mapped[Decimal] = mapped_column(
        Money, Computed("((cost_json ->> 'total')::numeric)", persisted=True), nullable=False
    )
    duration_ms: Mapped[int] = mapped_column(
        BigInteger,
        Computed("((execution_trace_json ->> 'duration_ms')::bigint)", persisted=True),
        nullable=False,
    )
    created_at: Mapped[datetime] = mapped_column(Moment)
    """When the run ended."""
    recorded_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    """When it was appended, by the database's clock."""
    sequence: Mapped[int] = mapped_column(BigInteger)
    """Its place in the chain of its project, from 1."""
    hash_version: Mapped[int] = mapped_column(SmallInteger)
    """Of the encoding that `hash` is of."""
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    salt: Mapped[bytes | None] = mapped_column(LargeBinary)
    """What is hashed before each payload; NULL once payloads are erased."""
    payload_digests: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of salt and payload, of each payload in turn."""


class ExecutionHead(Base):
    """How far the chain of a project goes, and that of its erasures; locked while they grow."""

    __tablename__ = "execution_heads"
    __table_args__ = (
        CheckConstraint(
            f"sequence >= 0 AND octet_length(hash) = {HASH_BYTES}"
            f" AND erasures >= 0 AND octet_length(erasures_hash) = {HASH_BYTES}",
            name="position",
        ),
    )

    project_id: Mapped[UUID] = mapped_column(
        ForeignKey(f"{SCHEMA}.projects.id", ondelete="RESTRICT"), primary_key=True
    )
    sequence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    hash: Mapped[bytes] = mapped_column(LargeBinary, server_default=_NO_HASH)
    erasures: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """How many of its runs' payloads are erased."""
    erasures_hash: Mapped[bytes] = mapped_column(LargeBinary, server_default=_NO_HASH)
    """Of the last record of an erasure, and of all before it."""


class ExecutionErasure(Base):
    """That the payloads of a run were erased, and why; each is hashed after the one before it."""

    __tablename__ = "execution_erasures"
    __table_args__ = (
        ForeignKeyConstraint(
            ["project_id", "sequence"],
            [f"{SCHEMA}.execution_ledger.project_id", f"{SCHEMA}.execution_ledger.sequence"],
            ondelete="RESTRICT",
        ),
        UniqueConstraint("project_id", "number"),
        CheckConstraint("btrim(reason) <> ''", name="reason"),
        CheckConstraint(f"number > 0 AND octet_length(hash) = {HASH_BYTES}", name="chain"),
    )

    project_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    erased_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    erased_by: Mapped[str] = mapped_column(Text)
    """The database role that asked for it."""
    number: Mapped[int] = mapped_column(BigInteger)
    """Its place among the erasures of its project, from 1."""
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    """Of it and of all before it."""
