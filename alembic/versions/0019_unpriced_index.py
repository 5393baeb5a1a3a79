"""The calls that wait for a price."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

INDEX = {
    "table": "token_usage_ledger",
    "columns": ("created_at",),
    "where": "pricing_status = 'unpriced'",
}


def upgrade() -> None:
    op.create_concurrent_index("idx_token_usage_unpriced", **INDEX)


def downgrade() -> None:
    op.drop_concurrent_index("idx_token_usage_unpriced", **INDEX)
