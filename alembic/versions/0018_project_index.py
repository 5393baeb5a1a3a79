"""One project's calls, in time."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

INDEX = {
    "table": "token_usage_ledger",
    "columns": ("project_id", "created_at"),
    "where": "project_id IS NOT NULL",
}


def upgrade() -> None:
    op.create_concurrent_index("idx_token_usage_project", **INDEX)


def downgrade() -> None:
    op.drop_concurrent_index("idx_token_usage_project", **INDEX)
