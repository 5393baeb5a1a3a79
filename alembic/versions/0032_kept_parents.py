"""What append-only rows refer to stays, also where no foreign key is enforced."""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

OF_PROJECT, OF_PROVIDER, OF_USER = (
    ("project_id", "projects"),
    ("provider_id", "providers"),
    ("user_id", "users"),
)
KEPT = (
    ("model_prices", None, (OF_PROVIDER,)),
    ("token_usage_ledger", None, (OF_PROJECT, OF_PROVIDER, OF_USER)),
    ("execution_ledger", "guard_execution", (OF_PROJECT, OF_USER)),
    ("execution_heads", "guard_head", (OF_PROJECT,)),
)


def upgrade() -> None:
    for name, guard, parents in KEPT:
        op.make_append_only(name, guard=guard, parents=parents)


def downgrade() -> None:
    for name, guard, parents in reversed(KEPT):
        op.drop_append_only(name, guard=guard, parents=parents)
        op.make_append_only(name, guard=guard)
