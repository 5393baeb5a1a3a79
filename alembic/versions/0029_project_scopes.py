"""Auditors of single projects, beside those who see all."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

EVERYBODYS = "SELECT kind, user_id FROM ledger.role_scopes WHERE role = current_user"
MY_PROJECTS = (
    "SELECT project_id FROM ledger.role_scopes WHERE role = current_user AND project_id IS NOT NULL"
)

SCOPED_PROJECTS = {
    "arguments": "",
    "definition": """RETURNS uuid[] LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RETURN ARRAY(SELECT project_id FROM ledger.my_projects);
END
$function$""",
}


def key(*columns: str) -> None:
    op.create_index(
        f"role_scopes_{'_'.join(columns)}_key",
        "role_scopes",
        list(columns),
        unique=True,
        schema="ledger",
        postgresql_nulls_not_distinct=True,
    )


def upgrade() -> None:
    op.add_column("role_scopes", sa.Column("project_id", sa.Uuid), schema="ledger")
    op.create_check_constraint(
        op.f("role_scopes_project_check"),
        "role_scopes",
        "project_id IS NULL OR kind = 'auditor'",
        schema="ledger",
    )
    key("role", "kind", "user_id", "project_id")
    op.drop_index("role_scopes_role_kind_user_id_key", "role_scopes", schema="ledger")
    op.create_view("my_scopes", query=f"{EVERYBODYS} AND project_id IS NULL")
    op.create_view("my_projects", query=MY_PROJECTS)
    op.create_routine("scoped_projects", **SCOPED_PROJECTS)


def downgrade() -> None:
    op.drop_routine("scoped_projects", **SCOPED_PROJECTS)
    op.drop_view("my_projects")
    op.create_view("my_scopes", query=EVERYBODYS)
    # Whose scopes were of projects would see all without them.
    op.drop_ledger_column("role_scopes", "project_id")
    key("role", "kind", "user_id")
