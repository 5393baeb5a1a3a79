"""The rollups are kept current, a minute after the last row at most."""

from datetime import timedelta

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

REFRESH = {
    "series": "llm_requests",
    "rollups": ("llm_metrics_1m", "llm_metrics_1h"),
    "every": timedelta(minutes=1),
    "settle": timedelta(minutes=5),
}


def upgrade() -> None:
    op.set_refresh("refresh_metrics", **REFRESH)


def downgrade() -> None:
    op.drop_refresh("refresh_metrics", **REFRESH)
