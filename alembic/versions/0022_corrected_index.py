"""Corrections by the call that they correct."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

INDEX = {
    "table": "token_usage_ledger",
    "columns": ("user_id", "adjusts_id"),
    "where": "kind <> 'usage'",
}


def upgrade() -> None:
    op.create_concurrent_index("idx_token_usage_corrected", **INDEX)


def downgrade() -> None:
    op.drop_concurrent_index("idx_token_usage_corrected", **INDEX)
