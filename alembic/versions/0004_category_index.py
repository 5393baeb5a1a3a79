"""The calls of one category; most hosts set none."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INDEX = {
    "table": "llm_requests",
    "columns": ("category", '"timestamp"'),
    "where": "category IS NOT NULL",
}


def upgrade() -> None:
    op.create_covering_index("llm_requests_category_idx", **INDEX)


def downgrade() -> None:
    op.drop_covering_index("llm_requests_category_idx", **INDEX)
