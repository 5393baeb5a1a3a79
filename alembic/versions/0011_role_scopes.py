"""Which role may see what, and views that show each role just that."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MY_SCOPES = "SELECT kind, user_id FROM ledger.role_scopes WHERE role = current_user"

# SECURITY INVOKER over a barrier view: inside SECURITY DEFINER current_user is the owner.
# With a search_path of its own: by the reader's, a function of the reader's could name anybody.
NARROWED_TO = "nullif(current_setting('ledger.user_id', true), '')::uuid"

SCOPED_USERS = {
    "arguments": "",
    "definition": f"""RETURNS uuid[] LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  narrowed CONSTANT uuid := {NARROWED_TO};
BEGIN
  RETURN ARRAY(
    SELECT user_id FROM ledger.my_scopes
    WHERE kind = 'reader' AND (narrowed IS NULL OR user_id = narrowed)
    UNION
    SELECT narrowed WHERE narrowed IS NOT NULL
      AND EXISTS (SELECT FROM ledger.my_scopes WHERE kind IN ('service', 'auditor')));
END
$function$""",
}
SEES_ALL = {
    "arguments": "",
    "definition": f"""RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RETURN {NARROWED_TO} IS NULL
    AND EXISTS (SELECT FROM ledger.my_scopes WHERE kind IN ('service', 'auditor'));
END
$function$""",
}

SUMS = (
    "requests, errors, rate_limited, input_tokens, output_tokens, reasoning_tokens,"
    " cache_read_tokens, cache_write_tokens, cost_usd, unpriced_requests, latency_sum_ms,"
    " latency_sum_ms::double precision / requests AS average_latency_ms,"
    " ledger.latency_percentile(latency_sketch, 0.5) AS p50_latency_ms,"
    " ledger.latency_percentile(latency_sketch, 0.95) AS p95_latency_ms,"
    " ledger.latency_percentile(latency_sketch, 0.99) AS p99_latency_ms, latency_sketch"
)
COLUMNS = {
    "llm_requests": (
        'user_id, "timestamp", id, request_id, provider, model, response_model, operation,'
        " category, latency_ms, time_to_first_token_ms, input_tokens, output_tokens,"
        " reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd, http_status_code,"
        " error_type, error_message, is_streaming, service_tier, session_id, agent_id, project_id,"
        " attributes"
    ),
    "llm_metrics_1m": f"bucket, user_id, provider, model, {SUMS}",
    "llm_metrics_1h": f"bucket, user_id, provider, model, {SUMS}",
}
VIEWS = {
    "visible_requests": "llm_requests",
    "visible_metrics_1m": "llm_metrics_1m",
    "visible_metrics_1h": "llm_metrics_1h",
}


def visible(relation: str) -> str:
    """A UNION ALL of the role's users and of everything: an OR would lose the index.

    Inside a subquery: a UNION ALL by itself is flattened, and security_barrier then ignored.
    """
    return (
        f"SELECT * FROM (SELECT {COLUMNS[relation]} FROM ledger.{relation}"
        " WHERE user_id = ANY ((SELECT ledger.scoped_users())::uuid[])"
        f" UNION ALL SELECT {COLUMNS[relation]} FROM ledger.{relation}"
        " WHERE (SELECT ledger.sees_all())) AS visible"
    )


def upgrade() -> None:
    op.create_table(
        "role_scopes",
        sa.Column("id", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column(
            "granted_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="role_scopes_pkey"),
        sa.CheckConstraint(
            "kind IN ('reader', 'writer', 'service', 'auditor')",
            name=op.f("role_scopes_kind_check"),
        ),
        sa.CheckConstraint(
            "(kind = 'reader') = (user_id IS NOT NULL)", name=op.f("role_scopes_user_check")
        ),
        schema="ledger",
    )
    op.create_index(
        "role_scopes_role_kind_user_id_key",
        "role_scopes",
        ["role", "kind", "user_id"],
        unique=True,
        schema="ledger",
        postgresql_nulls_not_distinct=True,
    )
    op.create_view("my_scopes", query=MY_SCOPES)
    op.create_routine("scoped_users", **SCOPED_USERS)
    op.create_routine("sees_all", **SEES_ALL)
    for name, relation in VIEWS.items():
        op.create_view(name, query=visible(relation))


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.drop_view(name)
    op.drop_routine("sees_all", **SEES_ALL)
    op.drop_routine("scoped_users", **SCOPED_USERS)
    op.drop_view("my_scopes")
    op.drop_ledger_table("role_scopes")
