"""Every row keeps the rule of stated costs: looked at apart, beside readers and writers."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE ledger.token_usage_ledger"
        " VALIDATE CONSTRAINT token_usage_ledger_stated_cost_check"
    )


def downgrade() -> None:
    """A rule that was looked at is the same rule."""
