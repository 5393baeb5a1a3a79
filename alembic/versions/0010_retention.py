"""After a week by column, where the storage can; raw rows and minutes 90 days, hours two years."""

from datetime import timedelta

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

WEEK = timedelta(days=7)
COLUMNS = {
    # The time, then the rest of the key, so that a late row finds its segment at once.
    "llm_requests": {"segment_by": "user_id", "order_by": '"timestamp" DESC, id', "after": WEEK},
    "llm_metrics_1m": {"segment_by": "user_id", "order_by": "bucket DESC", "after": WEEK},
    "llm_metrics_1h": {"segment_by": "user_id", "order_by": "bucket DESC", "after": WEEK},
}
KEPT = {
    "llm_requests": timedelta(days=90),
    "llm_metrics_1m": timedelta(days=90),
    "llm_metrics_1h": timedelta(days=730),
}


def upgrade() -> None:
    for name, columns in COLUMNS.items():
        op.set_columnstore(name, **columns)
    for name, keep in KEPT.items():
        op.set_retention(name, keep=keep)


def downgrade() -> None:
    for name in reversed(KEPT):
        op.drop_retention(name)
    for name in reversed(COLUMNS):
        op.drop_columnstore(name)
