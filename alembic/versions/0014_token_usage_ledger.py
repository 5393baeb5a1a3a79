"""Every call as it was billed, and every correction of it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

NAME = "token_usage_ledger"

COVERS = (
    "credits_deducted * credit_value_usd >= vendor_cost * margin_multiplier"
    " AND (credits_deducted - 1) * credit_value_usd < vendor_cost * margin_multiplier"
)
CHECKS = {
    "id_time": "ledger.uuid_time(id) = created_at",
    "names": "request_id <> '' AND model_id <> '' AND tier <> '' AND service_tier <> ''",
    "kind": "kind IN ('usage', 'adjustment', 'refund')",
    "adjusts": (
        "(kind = 'usage') = (adjusts_id IS NULL)"
        " AND (kind = 'usage') = (adjusts_created_at IS NULL)"
    ),
    "status": "status IN ('success', 'failed', 'cancelled')",
    "usage_source": "usage_source IN ('provider', 'estimated')",
    "input_tokens": (
        "input_tokens >= 0 AND cache_read_tokens >= 0 AND cache_write_tokens >= 0"
        " AND cache_read_tokens::numeric + cache_write_tokens <= input_tokens"
    ),
    "output_tokens": "output_tokens >= 0 AND reasoning_tokens BETWEEN 0 AND output_tokens",
    "corrected_tokens": "kind = 'usage' OR (input_tokens = 0 AND output_tokens = 0)",
    "latency": "latency_ms >= 0",
    "pricing": "pricing_status IN ('priced', 'stated', 'unpriced')",
    "priced_by": (
        "(pricing_status = 'priced') = (price_id IS NOT NULL)"
        " AND (pricing_status = 'unpriced') = (unpriced_reason IS NOT NULL)"
    ),
    "unpriced": (
        "(pricing_status = 'unpriced') = (vendor_cost IS NULL)"
        " AND (pricing_status = 'unpriced') = (charge_usd IS NULL)"
        " AND (pricing_status = 'unpriced') = (credits_deducted IS NULL)"
        " AND (pricing_status = 'unpriced') = (gross_margin_usd IS NULL)"
        " AND (pricing_status = 'unpriced' OR margin_multiplier IS NOT NULL)"
    ),
    "money": (
        "vendor_cost <> 'NaN' AND charge_usd <> 'NaN' AND gross_margin_usd <> 'NaN'"
        " AND (kind <> 'usage' OR (vendor_cost >= 0 AND credits_deducted >= 0))"
    ),
    "multiplier": "margin_multiplier >= 0 AND margin_multiplier <> 'NaN'",
    "credit_value": "credit_value_usd > 0 AND credit_value_usd <> 'NaN'",
    "credits": (f"kind <> 'usage' OR (status <> 'success' AND credits_deducted = 0) OR ({COVERS})"),
    "charge": "charge_usd = credits_deducted * credit_value_usd",
    "margin": "gross_margin_usd = charge_usd - vendor_cost",
}

USAGE_BY_KEY = {
    "arguments": "user_ids uuid[], request_ids text[]",
    "definition": """RETURNS SETOF ledger.token_usage_ledger LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT u.* FROM unnest(user_ids, request_ids) AS k(user_id, request_id)
CROSS JOIN LATERAL (
  SELECT * FROM ledger.token_usage_ledger s
  WHERE s.user_id = k.user_id AND s.request_id = k.request_id OFFSET 0) AS u
$function$""",
}

COLUMNS = (
    "user_id, id, request_id, kind, adjusts_id, adjusts_created_at, provider_id, model_id,"
    " operation, project_id, status, tier, service_tier, input_tokens, output_tokens,"
    " cache_read_tokens, cache_write_tokens, reasoning_tokens, usage_source, latency_ms,"
    " pricing_status, unpriced_reason, price_id, vendor_cost, margin_multiplier,"
    " credit_value_usd, credits_deducted, charge_usd, gross_margin_usd, created_at,"
    " recorded_at, attributes"
)
VISIBLE = (
    f"SELECT * FROM (SELECT {COLUMNS} FROM ledger.{NAME}"
    " WHERE user_id = ANY ((SELECT ledger.scoped_users())::uuid[])"
    f" UNION ALL SELECT {COLUMNS} FROM ledger.{NAME}"
    " WHERE (SELECT ledger.sees_all())) AS visible"
)


def upgrade() -> None:
    op.create_table(
        NAME,
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("adjusts_id", sa.Uuid),
        sa.Column("adjusts_created_at", postgresql.TIMESTAMP(timezone=True, precision=3)),
        sa.Column("provider_id", sa.Uuid, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("operation", sa.Text),
        sa.Column("project_id", sa.Uuid),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("service_tier", sa.Text, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger, nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("usage_source", sa.Text, nullable=False),
        sa.Column("latency_ms", sa.Integer),
        sa.Column("pricing_status", sa.Text, nullable=False),
        sa.Column("unpriced_reason", sa.Text),
        sa.Column("price_id", sa.Uuid),
        sa.Column("vendor_cost", sa.Numeric(24, 12)),
        sa.Column("margin_multiplier", sa.Numeric(12, 6)),
        sa.Column("credit_value_usd", sa.Numeric(24, 12), nullable=False),
        sa.Column("credits_deducted", sa.BigInteger),
        sa.Column("charge_usd", sa.Numeric(24, 12)),
        sa.Column("gross_margin_usd", sa.Numeric(24, 12)),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=False),
        sa.Column(
            "recorded_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("attributes", postgresql.JSONB, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name=f"{NAME}_pkey"),
        sa.UniqueConstraint("user_id", "request_id", name=f"{NAME}_user_id_request_id_key"),
        *(
            sa.ForeignKeyConstraint(
                [f"{name}_id"],
                [f"ledger.{table}.id"],
                name=f"{NAME}_{name}_id_fkey",
                ondelete="RESTRICT",
            )
            for name, table in (
                ("user", "users"),
                ("provider", "providers"),
                ("project", "projects"),
                ("price", "model_prices"),
            )
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "adjusts_id"],
            [f"ledger.{NAME}.user_id", f"ledger.{NAME}.id"],
            name=f"{NAME}_user_id_adjusts_id_fkey",
            ondelete="RESTRICT",
        ),
        *(
            sa.CheckConstraint(rule, name=op.f(f"{NAME}_{name}_check"))
            for name, rule in CHECKS.items()
        ),
        schema="ledger",
    )
    op.make_append_only(NAME)
    op.create_row_policy(NAME)
    op.create_routine("usage_by_key", **USAGE_BY_KEY)
    op.create_view("visible_usage", query=VISIBLE)


def downgrade() -> None:
    op.drop_view("visible_usage")
    op.drop_routine("usage_by_key", **USAGE_BY_KEY)
    op.drop_row_policy(NAME)
    op.drop_append_only(NAME)
    op.drop_ledger_table(NAME)
