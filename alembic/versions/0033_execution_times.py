"""A run ends, and is recorded, when it may have been."""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

TABLE = "execution_ledger"


def upgrade() -> None:
    op.execute(
        f"ALTER TABLE ledger.{TABLE} ADD CONSTRAINT {TABLE}_times_check"
        " CHECK (created_at <= recorded_at + INTERVAL '24 hours'"
        " AND recorded_at < '9999-01-01 00:00:00+00') NOT VALID"
    )


def downgrade() -> None:
    op.execute(f"ALTER TABLE ledger.{TABLE} DROP CONSTRAINT {TABLE}_times_check")
