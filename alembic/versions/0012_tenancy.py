"""Who uses models and who serves them: tiers, users, providers, projects."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = ("tiers", "users", "providers", "projects")


def drawn_id() -> sa.Column:
    return sa.Column("id", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False)


def moment(name: str) -> sa.Column:
    return sa.Column(
        name, sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def upgrade() -> None:
    op.create_table(
        "tiers",
        drawn_id(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("effective_from", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("margin_multiplier", sa.Numeric(12, 6), nullable=False),
        moment("recorded_at"),
        sa.PrimaryKeyConstraint("id", name="tiers_pkey"),
        sa.UniqueConstraint("name", "effective_from", name="tiers_name_effective_from_key"),
        sa.CheckConstraint("name <> ''", name=op.f("tiers_name_check")),
        sa.CheckConstraint(
            "margin_multiplier >= 0 AND margin_multiplier <> 'NaN'",
            name=op.f("tiers_multiplier_check"),
        ),
        schema="ledger",
    )
    op.create_table(
        "users",
        drawn_id(),
        sa.Column("external_id", sa.Text),
        sa.Column("tier", sa.Text, nullable=False),
        moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="users_pkey"),
        sa.UniqueConstraint("external_id", name="users_external_id_key"),
        sa.CheckConstraint("tier <> '' AND external_id <> ''", name=op.f("users_names_check")),
        schema="ledger",
    )
    op.create_table(
        "providers",
        drawn_id(),
        sa.Column("external_id", sa.Text),
        sa.Column("name", sa.Text, nullable=False),
        moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="providers_pkey"),
        sa.UniqueConstraint("external_id", name="providers_external_id_key"),
        sa.UniqueConstraint("name", name="providers_name_key"),
        sa.CheckConstraint("name <> '' AND external_id <> ''", name=op.f("providers_names_check")),
        schema="ledger",
    )
    op.create_table(
        "projects",
        drawn_id(),
        sa.Column("external_id", sa.Text),
        sa.Column("name", sa.Text, nullable=False),
        moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="projects_pkey"),
        sa.UniqueConstraint("external_id", name="projects_external_id_key"),
        sa.CheckConstraint("name <> '' AND external_id <> ''", name=op.f("projects_names_check")),
        schema="ledger",
    )
    op.make_append_only("tiers")


def downgrade() -> None:
    op.drop_append_only("tiers")
    for table in reversed(TABLES):
        op.drop_ledger_table(table)
