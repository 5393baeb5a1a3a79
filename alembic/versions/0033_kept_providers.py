"""Providers that append-only rows refer to stay, also where no foreign key is enforced.

One table a revision, so that no more than one is locked at a time.
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

REFERRED_TO_BY = (
    ("model_prices", "provider_id"),
    ("token_usage_ledger", "provider_id"),
)


def upgrade() -> None:
    op.keep_rows("providers", referred_to_by=REFERRED_TO_BY)


def downgrade() -> None:
    op.release_rows("providers", referred_to_by=REFERRED_TO_BY)
