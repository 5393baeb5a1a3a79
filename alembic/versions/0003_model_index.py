"""The calls of one model, across users."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDEX = {
    "table": "llm_requests",
    "columns": ("model", '"timestamp"'),
}


def upgrade() -> None:
    op.create_covering_index("llm_requests_model_idx", **INDEX)


def downgrade() -> None:
    op.drop_covering_index("llm_requests_model_idx", **INDEX)
