"""A cost that was stated is kept also where nobody has said yet what its tier is charged."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

NAME = "token_usage_ledger"
BEFORE = (
    "user_id, id, request_id, kind, adjusts_id, adjusts_created_at, provider_id, model_id,"
    " operation, project_id, status, tier, service_tier, input_tokens, output_tokens,"
    " cache_read_tokens, cache_write_tokens, reasoning_tokens, usage_source, latency_ms,"
    " pricing_status, unpriced_reason, price_id, vendor_cost, margin_multiplier,"
    " credit_value_usd, credits_deducted, charge_usd, gross_margin_usd, created_at,"
    " recorded_at, attributes"
)


RULE = (
    "stated_cost IS NULL"
    " OR (pricing_status = 'unpriced' AND stated_cost >= 0 AND stated_cost <> 'NaN')"
)


def _visible(columns: str) -> str:
    return (
        f"SELECT * FROM (SELECT {columns} FROM ledger.{NAME}"
        " WHERE user_id = ANY ((SELECT ledger.scoped_users())::uuid[])"
        f" UNION ALL SELECT {columns} FROM ledger.{NAME}"
        " WHERE (SELECT ledger.sees_all())) AS visible"
    )


def upgrade() -> None:
    op.add_column(NAME, sa.Column("stated_cost", sa.Numeric(24, 12)), schema="ledger")
    op.execute(
        f"ALTER TABLE ledger.{NAME}"
        f" ADD CONSTRAINT {NAME}_stated_cost_check CHECK ({RULE}) NOT VALID"
    )
    op.create_view("visible_usage", query=_visible(f"{BEFORE}, stated_cost"))


def downgrade() -> None:
    op.drop_view("visible_usage")
    op.drop_ledger_column(NAME, "stated_cost")
    op.create_view("visible_usage", query=_visible(BEFORE))
