"""What append-only rows refer to stays, also where no foreign key is enforced."""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

KEPT = {
    "projects": (
        ("token_usage_ledger", "project_id"),
        ("execution_ledger", "project_id"),
        ("execution_heads", "project_id"),
    ),
    "providers": (("model_prices", "provider_id"), ("token_usage_ledger", "provider_id")),
    "users": (("token_usage_ledger", "user_id"), ("execution_ledger", "user_id")),
}


def upgrade() -> None:
    # One table is locked at a time: whoever upserts into several locks them in his own order.
    with op.get_context().autocommit_block():
        for name, referred_to_by in KEPT.items():
            op.keep_rows(name, referred_to_by=referred_to_by)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name, referred_to_by in reversed(KEPT.items()):
            op.release_rows(name, referred_to_by=referred_to_by)
