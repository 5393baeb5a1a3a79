"""The calls that succeeded, with their money, in time: edges of windows, and export."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

INDEX = {
    "table": "token_usage_ledger",
    "columns": ("created_at",),
    "include": (
        "provider_id",
        "vendor_cost",
        "charge_usd",
        "credits_deducted",
        "input_tokens",
        "output_tokens",
    ),
    "where": "status = 'success' AND kind = 'usage'",
}


def upgrade() -> None:
    op.create_concurrent_index("idx_token_usage_success", **INDEX)


def downgrade() -> None:
    op.drop_concurrent_index("idx_token_usage_success", **INDEX)
