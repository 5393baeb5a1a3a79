"""Sums of money and tokens, right at the moment a row is in."""

from datetime import timedelta

from alembic import op

from ledger.ddl.objects import Fold

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

CONTRIBUTIONS = """SELECT created_at AS moment, provider_id, model_id, status, tier,
  CASE WHEN kind = 'usage' THEN 'made' ELSE 'corrected' END AS part, pricing_status,
  input_tokens, output_tokens, vendor_cost, charge_usd, credits_deducted,
  CASE WHEN vendor_cost > 0 THEN ceil(48 * log(vendor_cost::double precision))
    WHEN vendor_cost = 0 THEN -32768 END::smallint AS cost_bin
FROM inserted
UNION ALL
SELECT adjusts_created_at, provider_id, model_id, status, tier, 'restated', pricing_status,
  0, 0, vendor_cost, charge_usd, credits_deducted, NULL
FROM inserted WHERE kind <> 'usage'"""

KEYS = (("provider_id", "uuid"), ("model_id", "text"), ("status", "text"), ("tier", "text"))

MEASURES = (
    ("requests", "bigint", "count(*) FILTER (WHERE part = 'made')"),
    (
        "unpriced_requests",
        "bigint",
        "count(*) FILTER (WHERE part = 'made' AND pricing_status = 'unpriced')",
    ),
    ("input_tokens", "numeric(38)", "sum(input_tokens)"),
    ("output_tokens", "numeric(38)", "sum(output_tokens)"),
    (
        "vendor_cost",
        "numeric(38, 12)",
        "coalesce(sum(vendor_cost) FILTER (WHERE part = 'made'), 0)",
    ),
    ("charge_usd", "numeric(38, 12)", "coalesce(sum(charge_usd) FILTER (WHERE part = 'made'), 0)"),
    (
        "credits_deducted",
        "numeric(38)",
        "coalesce(sum(credits_deducted) FILTER (WHERE part = 'made'), 0)",
    ),
    (
        "corrected_vendor_cost",
        "numeric(38, 12)",
        "coalesce(sum(vendor_cost) FILTER (WHERE part = 'corrected'), 0)",
    ),
    (
        "corrected_charge_usd",
        "numeric(38, 12)",
        "coalesce(sum(charge_usd) FILTER (WHERE part = 'corrected'), 0)",
    ),
    (
        "corrected_credits_deducted",
        "numeric(38)",
        "coalesce(sum(credits_deducted) FILTER (WHERE part = 'corrected'), 0)",
    ),
    (
        "restated_vendor_cost",
        "numeric(38, 12)",
        "coalesce(sum(vendor_cost) FILTER (WHERE part = 'restated'), 0)",
    ),
    (
        "restated_charge_usd",
        "numeric(38, 12)",
        "coalesce(sum(charge_usd) FILTER (WHERE part = 'restated'), 0)",
    ),
    (
        "restated_credits_deducted",
        "numeric(38)",
        "coalesce(sum(credits_deducted) FILTER (WHERE part = 'restated'), 0)",
    ),
)
BINS = (
    "cost_bins",
    "smallint[]",
    "coalesce(array_agg(cost_bin) FILTER (WHERE part = 'made' AND cost_bin IS NOT NULL), '{}')",
)

ALL_KEYS = tuple(name for name, _ in KEYS)
SUMMED = tuple(name for name, _, _ in MEASURES)

SUMS = {
    "table": "token_usage_ledger",
    "trigger": "token_usage_ledger_adds_to_sums",
    "contributions": CONTRIBUTIONS,
    "keys": KEYS,
    "measures": (*MEASURES, BINS),
    "folds": (
        Fold(
            name="token_usage_hours",
            bucket=timedelta(hours=1),
            keys=("provider_id", "status"),
            measures=SUMMED,
        ),
        Fold(
            name="token_usage_days",
            bucket=timedelta(days=1),
            keys=("provider_id", "status"),
            measures=SUMMED,
        ),
        Fold(
            name="token_usage_model_days",
            bucket=timedelta(days=1),
            keys=ALL_KEYS,
            measures=SUMMED,
        ),
        Fold(
            name="token_usage_costs",
            bucket=timedelta(days=1),
            keys=ALL_KEYS,
            measures=(),
            element="cost_bins",
        ),
        Fold(
            name="token_usage_all_costs",
            bucket=timedelta(days=1),
            keys=("status",),
            measures=(),
            element="cost_bins",
        ),
    ),
}


def upgrade() -> None:
    op.create_running_sums("token_usage_deltas", **SUMS)


def downgrade() -> None:
    op.drop_running_sums("token_usage_deltas", **SUMS)
