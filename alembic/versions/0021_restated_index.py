"""Corrections by when the call was made that they correct."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

INDEX = {
    "table": "token_usage_ledger",
    "columns": ("adjusts_created_at",),
    "where": "kind <> 'usage'",
}


def upgrade() -> None:
    op.create_concurrent_index("idx_token_usage_restated", **INDEX)


def downgrade() -> None:
    op.drop_concurrent_index("idx_token_usage_restated", **INDEX)
