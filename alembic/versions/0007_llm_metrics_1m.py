"""Sums by minute, user, provider and model."""

from datetime import timedelta

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ROLLUP = {
    "source": "llm_requests",
    "series": "llm_requests",
    "time_column": "timestamp",
    "bucket": timedelta(minutes=1),
    "keys": ("user_id", "provider", "model"),
    "measures": (
        ("requests", "count(*)"),
        (
            "errors",
            "count(*) FILTER (WHERE http_status_code >= 400 OR error_type IS NOT NULL)",
        ),
        ("rate_limited", "count(*) FILTER (WHERE http_status_code = 429)"),
        ("input_tokens", "sum(input_tokens)"),
        ("output_tokens", "sum(output_tokens)"),
        ("reasoning_tokens", "sum(reasoning_tokens)"),
        ("cache_read_tokens", "sum(cache_read_tokens)"),
        ("cache_write_tokens", "sum(cache_write_tokens)"),
        ("cost_usd", "coalesce(sum(cost_usd), 0)"),
        ("unpriced_requests", "count(*) FILTER (WHERE cost_usd IS NULL)"),
        ("latency_sum_ms", "sum(latency_ms)"),
    ),
    "latency": "latency_ms",
}


def upgrade() -> None:
    op.create_rollup("llm_metrics_1m", **ROLLUP)


def downgrade() -> None:
    op.drop_rollup("llm_metrics_1m", **ROLLUP)
