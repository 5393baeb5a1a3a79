"""Corrections by when they were booked."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

INDEX = {
    "table": "token_usage_ledger",
    "columns": ("created_at",),
    "where": "kind <> 'usage'",
}


def upgrade() -> None:
    op.create_concurrent_index("idx_token_usage_corrections", **INDEX)


def downgrade() -> None:
    op.drop_concurrent_index("idx_token_usage_corrections", **INDEX)
