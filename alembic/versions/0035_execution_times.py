"""A run that is appended ends when it may have: not a day after it is recorded."""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Each routine and trigger by itself: whoever appends holds the tables in another order.
    with op.get_context().autocommit_block():
        op.create_execution_chain("execution_ledger")


def downgrade() -> None:
    """What refuses a run of the far future refuses nothing else."""
