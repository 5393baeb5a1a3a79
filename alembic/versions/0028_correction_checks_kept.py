"""Every row keeps the rules of corrections: looked at apart, beside readers and writers."""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

TABLE = "token_usage_ledger"


def upgrade() -> None:
    for name in ("adjusts_another", "corrected_amounts", "refund"):
        op.execute(f"ALTER TABLE ledger.{TABLE} VALIDATE CONSTRAINT {TABLE}_{name}_check")


def downgrade() -> None:
    """A rule that was looked at is the same rule."""
