"""How the database is installed, and the functions that everything else uses."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UUID_TIME = {
    "arguments": "id uuid",
    "definition": (
        "RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN to_timestamp("
        "(('x' || encode(substring(uuid_send(id), 1, 6), 'hex'))::bit(48)::bigint)"
        "::double precision / 1000)"
    ),
}


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("is_installed", sa.Boolean, server_default=sa.text("true"), nullable=False),
        sa.Column("storage", sa.Text, nullable=False),
        sa.Column("percentiles", sa.Text, nullable=False),
        sa.Column("bins_version", sa.Integer, nullable=False),
        sa.Column(
            "retention",
            postgresql.JSONB,
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "installed_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("is_installed", name="installation_pkey"),
        sa.CheckConstraint("is_installed", name=op.f("installation_singleton_check")),
        sa.CheckConstraint(
            "storage IN ('timescale', 'postgres')", name=op.f("installation_storage_check")
        ),
        sa.CheckConstraint(
            "percentiles IN ('uddsketch', 'histogram')", name=op.f("installation_percentiles_check")
        ),
        schema="ledger",
    )
    op.create_table(
        "rollup_progress",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column(
            "raw_from",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("'-infinity'::timestamptz"),
            nullable=False,
        ),
        sa.Column(
            "watermark",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("'-infinity'::timestamptz"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("source", name="rollup_progress_pkey"),
        schema="ledger",
    )
    op.record_installation(bins_version=1)
    op.create_routine("uuid_time", **UUID_TIME)
    op.create_latency_functions("latency_percentile", bins_version=1)


def downgrade() -> None:
    op.drop_latency_functions("latency_percentile", bins_version=1)
    op.drop_routine("uuid_time", **UUID_TIME)
    op.drop_table("rollup_progress", schema="ledger")
    op.drop_table("installation", schema="ledger")
