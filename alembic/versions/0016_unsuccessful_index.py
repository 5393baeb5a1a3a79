"""The calls that failed or were cancelled and may have cost money all the same."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

INDEX = {
    "table": "token_usage_ledger",
    "columns": ("created_at",),
    "include": (
        "provider_id",
        "status",
        "vendor_cost",
        "charge_usd",
        "credits_deducted",
        "input_tokens",
        "output_tokens",
    ),
    "where": "status <> 'success' AND kind = 'usage'",
}


def upgrade() -> None:
    op.create_concurrent_index("idx_token_usage_unsuccessful", **INDEX)


def downgrade() -> None:
    op.drop_concurrent_index("idx_token_usage_unsuccessful", **INDEX)
