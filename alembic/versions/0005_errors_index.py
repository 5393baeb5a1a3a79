"""The failed calls, by status: a few rows in a hundred."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INDEX = {
    "table": "llm_requests",
    "columns": ("http_status_code", '"timestamp"'),
    "where": "http_status_code >= 400 OR error_type IS NOT NULL",
}


def upgrade() -> None:
    op.create_covering_index("llm_requests_errors_idx", **INDEX)


def downgrade() -> None:
    op.drop_covering_index("llm_requests_errors_idx", **INDEX)
