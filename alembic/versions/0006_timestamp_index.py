"""Rows of a time, whosever: they lie together, so a BRIN of a few pages serves."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INDEX = {
    "table": "llm_requests",
    "columns": ('"timestamp"',),
    "using": "brin",
}


def upgrade() -> None:
    op.create_covering_index("llm_requests_timestamp_idx", **INDEX)


def downgrade() -> None:
    op.drop_covering_index("llm_requests_timestamp_idx", **INDEX)
