"""Sums by hour, made of those by minute."""

from datetime import timedelta

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SUMS = (
    "requests",
    "errors",
    "rate_limited",
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_usd",
    "unpriced_requests",
    "latency_sum_ms",
)

ROLLUP = {
    "source": "llm_metrics_1m",
    "series": "llm_requests",
    "time_column": "bucket",
    "bucket": timedelta(hours=1),
    "keys": ("user_id", "provider", "model"),
    "measures": tuple((name, f"sum({name})") for name in SUMS),
    "latency": "latency_sketch",
}


def upgrade() -> None:
    op.create_rollup("llm_metrics_1h", **ROLLUP)


def downgrade() -> None:
    op.drop_rollup("llm_metrics_1h", **ROLLUP)
