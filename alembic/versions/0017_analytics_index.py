"""One user's calls with their money, in time."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

INDEX = {
    "table": "token_usage_ledger",
    "columns": ("user_id", "created_at"),
    "include": (
        "provider_id",
        "model_id",
        "status",
        "tier",
        "vendor_cost",
        "charge_usd",
        "credits_deducted",
        "input_tokens",
        "output_tokens",
    ),
    "where": "kind = 'usage'",
}


def upgrade() -> None:
    op.create_concurrent_index("idx_token_usage_analytics", **INDEX)


def downgrade() -> None:
    op.drop_concurrent_index("idx_token_usage_analytics", **INDEX)
