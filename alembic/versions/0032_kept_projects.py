"""Projects that append-only rows refer to stay, also where no foreign key is enforced.

One table a revision, so that no more than one is locked at a time.
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

REFERRED_TO_BY = (
    ("token_usage_ledger", "project_id"),
    ("execution_ledger", "project_id"),
    ("execution_heads", "project_id"),
)


def upgrade() -> None:
    op.keep_rows("projects", referred_to_by=REFERRED_TO_BY)


def downgrade() -> None:
    op.release_rows("projects", referred_to_by=REFERRED_TO_BY)
