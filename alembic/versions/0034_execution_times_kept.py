"""Every run was recorded when it may have been: looked at apart, beside readers and writers."""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

TABLE = "execution_ledger"


def upgrade() -> None:
    op.execute(f"ALTER TABLE ledger.{TABLE} VALIDATE CONSTRAINT {TABLE}_times_check")


def downgrade() -> None:
    """A rule that was looked at is the same rule."""
