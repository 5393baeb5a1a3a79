"""What holds of corrections: they have amounts, adjust another row, and a refund gives back."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

TABLE = "token_usage_ledger"
CHECKS = {
    "adjusts_another": "adjusts_id <> id",
    "corrected_amounts": "kind = 'usage' OR pricing_status <> 'unpriced'",
    "refund": "kind <> 'refund' OR (vendor_cost = 0 AND credits_deducted <= 0)",
}


def upgrade() -> None:
    for name, rule in CHECKS.items():
        op.execute(
            f"ALTER TABLE ledger.{TABLE} ADD CONSTRAINT {TABLE}_{name}_check CHECK ({rule})"
            " NOT VALID"
        )


def downgrade() -> None:
    for name in CHECKS:
        op.execute(f"ALTER TABLE ledger.{TABLE} DROP CONSTRAINT {TABLE}_{name}_check")
