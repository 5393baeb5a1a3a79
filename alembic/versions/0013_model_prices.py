"""What providers ask for a million tokens, from some moment on."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

RATES = (
    "input_usd_per_million",
    "output_usd_per_million",
    "cache_read_usd_per_million",
    "cache_write_usd_per_million",
    "reasoning_usd_per_million",
)


def upgrade() -> None:
    op.create_table(
        "model_prices",
        sa.Column("id", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("provider_id", sa.Uuid, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("service_tier", sa.Text, nullable=False),
        sa.Column("context_tokens_from", sa.BigInteger, nullable=False),
        sa.Column("effective_from", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("is_withdrawn", sa.Boolean, nullable=False),
        *(sa.Column(rate, sa.Numeric(24, 12)) for rate in RATES),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column(
            "recorded_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="model_prices_pkey"),
        sa.UniqueConstraint(
            "provider_id",
            "model_id",
            "service_tier",
            "context_tokens_from",
            "effective_from",
            name="model_prices_price_key",
        ),
        sa.ForeignKeyConstraint(
            ["provider_id"],
            ["ledger.providers.id"],
            name="model_prices_provider_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.CheckConstraint(
            "model_id <> '' AND service_tier <> '' AND source <> ''",
            name=op.f("model_prices_names_check"),
        ),
        sa.CheckConstraint("context_tokens_from >= 0", name=op.f("model_prices_context_check")),
        sa.CheckConstraint(
            " AND ".join(f"{rate} >= 0 AND {rate} <> 'NaN'" for rate in RATES),
            name=op.f("model_prices_rates_check"),
        ),
        sa.CheckConstraint(
            f"is_withdrawn = (num_nonnulls({', '.join(RATES)}) = 0)",
            name=op.f("model_prices_withdrawn_check"),
        ),
        schema="ledger",
    )
    op.make_append_only("model_prices")


def downgrade() -> None:
    op.drop_append_only("model_prices")
    op.drop_ledger_table("model_prices")
