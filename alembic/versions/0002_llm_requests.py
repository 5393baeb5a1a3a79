"""One row a call to a language model, in time."""

from datetime import timedelta

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SERIES = {"time_column": "timestamp", "chunk": timedelta(days=1)}

RAW_FROM = {
    "arguments": "",
    "definition": """RETURNS timestamptz LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT greatest(
  p.raw_from,
  date_bin('1 hour', now() - (i.retention ->> 'llm_requests')::interval, '1970-01-01 00:00:00+00')
    + INTERVAL '1 hour')
FROM ledger.rollup_progress p, ledger.installation i WHERE p.source = 'llm_requests'
$function$""",
}

REQUESTS_BY_KEY = {
    "arguments": "user_ids uuid[], timestamps timestamptz[], ids uuid[]",
    "definition": """RETURNS SETOF ledger.llm_requests LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT r.* FROM unnest(user_ids, timestamps, ids) AS k(user_id, at, id)
CROSS JOIN LATERAL (
  SELECT * FROM ledger.llm_requests s
  WHERE s.user_id = k.user_id AND s."timestamp" = k.at AND s.id = k.id OFFSET 0) AS r
$function$""",
}


def upgrade() -> None:
    op.create_table(
        "llm_requests",
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("timestamp", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("response_model", sa.Text),
        sa.Column("operation", sa.Text),
        sa.Column("category", sa.Text),
        sa.Column("latency_ms", sa.Integer, nullable=False),
        sa.Column("time_to_first_token_ms", sa.Integer),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("output_tokens", sa.Integer, nullable=False),
        sa.Column("reasoning_tokens", sa.Integer, nullable=False),
        sa.Column("cache_read_tokens", sa.Integer, nullable=False),
        sa.Column("cache_write_tokens", sa.Integer, nullable=False),
        sa.Column("cost_usd", sa.Numeric(24, 12)),
        sa.Column("http_status_code", sa.SmallInteger),
        sa.Column("error_type", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("is_streaming", sa.Boolean, nullable=False),
        sa.Column("service_tier", sa.Text),
        sa.Column("session_id", sa.Text),
        sa.Column("agent_id", sa.Text),
        sa.Column("project_id", sa.Uuid),
        sa.Column("attributes", postgresql.JSONB, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "timestamp", "id", name="llm_requests_pkey"),
        sa.CheckConstraint(
            'ledger.uuid_time(id) = "timestamp"', name=op.f("llm_requests_id_time_check")
        ),
        sa.CheckConstraint("provider <> '' AND model <> ''", name=op.f("llm_requests_names_check")),
        sa.CheckConstraint("latency_ms >= 0", name=op.f("llm_requests_latency_check")),
        sa.CheckConstraint(
            "time_to_first_token_ms BETWEEN 0 AND latency_ms",
            name=op.f("llm_requests_time_to_first_token_check"),
        ),
        sa.CheckConstraint(
            "input_tokens >= 0 AND cache_read_tokens >= 0 AND cache_write_tokens >= 0"
            " AND cache_read_tokens::bigint + cache_write_tokens <= input_tokens",
            name=op.f("llm_requests_input_tokens_check"),
        ),
        sa.CheckConstraint(
            "output_tokens >= 0 AND reasoning_tokens BETWEEN 0 AND output_tokens",
            name=op.f("llm_requests_output_tokens_check"),
        ),
        sa.CheckConstraint(
            "cost_usd >= 0 AND cost_usd <> 'NaN'", name=op.f("llm_requests_cost_check")
        ),
        sa.CheckConstraint(
            "http_status_code BETWEEN 100 AND 599", name=op.f("llm_requests_http_status_code_check")
        ),
        schema="ledger",
    )
    op.create_routine("raw_from", **RAW_FROM)
    op.create_time_series("llm_requests", **SERIES)
    op.create_routine("requests_by_key", **REQUESTS_BY_KEY)


def downgrade() -> None:
    op.drop_routine("requests_by_key", **REQUESTS_BY_KEY)
    op.drop_time_series("llm_requests", **SERIES)
    op.drop_routine("raw_from", **RAW_FROM)
    op.drop_ledger_table("llm_requests")
