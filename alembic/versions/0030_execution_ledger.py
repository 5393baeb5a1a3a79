"""Every run of an agent, in a chain of hashes a project that cannot be changed unseen."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

LEDGER = "execution_ledger"
HEADS = "execution_heads"
ERASURES = "execution_erasures"
NO_HASH = sa.text(r"E'\\x" + "00" * 32 + "'::bytea")

CHECKS = {
    "id_time": "ledger.uuid_time(id) = created_at",
    "names": "run_id <> '' AND agent_id <> '' AND intent <> ''",
    "parent": "parent_run_id <> '' AND parent_run_id <> run_id",
    "status": "status IN ('completed', 'failed', 'aborted')",
    "error_message": (
        "error_message <> '' AND (status = 'completed' OR error_message IS NOT NULL)"
    ),
    "payloads": "jsonb_typeof(input) = 'object' AND jsonb_typeof(output) = 'object'",
    "cost": (
        "coalesce(cost_json -> 'total' = to_jsonb(total_cost_cents), false)"
        " AND total_cost_cents >= 0 AND total_cost_cents <> 'NaN'"
    ),
    "trace": (
        "coalesce(execution_trace_json -> 'duration_ms' = to_jsonb(duration_ms), false)"
        " AND duration_ms >= 0"
    ),
    "chain": (
        "sequence > 0 AND hash_version = 1 AND octet_length(previous_hash) = 32"
        " AND octet_length(hash) = 32 AND octet_length(salt) = 32"
        " AND octet_length(payload_digests) = 192"
    ),
    "erased": (
        "salt IS NOT NULL OR ("
        "intent = '[erased]' AND input = '{}' AND coalesce(output, '{}') = '{}'"
        " AND cost_json = jsonb_build_object('breakdown', '{}'::jsonb,"
        " 'total', cost_json -> 'total')"
        " AND execution_trace_json = jsonb_build_object('steps', '[]'::jsonb,"
        " 'duration_ms', execution_trace_json -> 'duration_ms')"
        " AND coalesce(error_message, '[erased]') = '[erased]')"
    ),
}

STATISTICS = ("user_id", "status", "total_cost_cents", "duration_ms")
INDEXES = {
    "project": (("project_id", "created_at", "id"), ("agent_id", *STATISTICS), None),
    "user": (("user_id", "created_at", "id"), (), None),
    "costs": (("agent_id", "created_at", "id"), ("project_id", *STATISTICS), None),
    "unsuccessful": (("created_at", "id"), (), "status <> 'completed'"),
    "parent": (("parent_run_id",), (), "parent_run_id IS NOT NULL"),
}


def upgrade() -> None:
    op.create_table(
        LEDGER,
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("parent_run_id", sa.Text),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("intent", sa.Text, nullable=False),
        sa.Column("input", postgresql.JSONB, nullable=False),
        sa.Column("output", postgresql.JSONB),
        sa.Column("cost_json", postgresql.JSONB, nullable=False),
        sa.Column("execution_trace_json", postgresql.JSONB, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("error_message", sa.Text),
        sa.Column(
            "total_cost_cents",
            sa.Numeric(24, 12),
            sa.Computed("((cost_json ->> 'total')::numeric)", persisted=True),
            nullable=False,
        ),
        sa.Column(
            "duration_ms",
            sa.BigInteger,
            sa.Computed("((execution_trace_json ->> 'duration_ms')::bigint)", persisted=True),
            nullable=False,
        ),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=False),
        sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash_version", sa.SmallInteger, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("payload_digests", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"{LEDGER}_pkey"),
        sa.UniqueConstraint("run_id", name=f"{LEDGER}_run_id_key"),
        sa.UniqueConstraint("project_id", "sequence", name=f"{LEDGER}_project_id_sequence_key"),
        *(
            sa.ForeignKeyConstraint(
                [f"{name}_id"],
                [f"ledger.{name}s.id"],
                name=f"{LEDGER}_{name}_id_fkey",
                ondelete="RESTRICT",
            )
            for name in ("project", "user")
        ),
        *(
            sa.CheckConstraint(rule, name=op.f(f"{LEDGER}_{name}_check"))
            for name, rule in CHECKS.items()
        ),
        schema="ledger",
    )
    for name, (columns, include, where) in INDEXES.items():
        op.create_index(
            f"idx_{LEDGER}_{name}",
            LEDGER,
            list(columns),
            schema="ledger",
            postgresql_include=list(include),
            postgresql_where=None if where is None else sa.text(where),
        )
    op.create_table(
        HEADS,
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, server_default=sa.text("0"), nullable=False),
        sa.Column("hash", sa.LargeBinary, server_default=NO_HASH, nullable=False),
        sa.Column("erasures", sa.BigInteger, server_default=sa.text("0"), nullable=False),
        sa.Column("erasures_hash", sa.LargeBinary, server_default=NO_HASH, nullable=False),
        sa.PrimaryKeyConstraint("project_id", name=f"{HEADS}_pkey"),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["ledger.projects.id"],
            name=f"{HEADS}_project_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.CheckConstraint(
            "sequence >= 0 AND octet_length(hash) = 32"
            " AND erasures >= 0 AND octet_length(erasures_hash) = 32",
            name=op.f(f"{HEADS}_position_check"),
        ),
        schema="ledger",
    )
    op.create_table(
        ERASURES,
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("erased_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("erased_by", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "sequence", name=f"{ERASURES}_pkey"),
        sa.UniqueConstraint("project_id", "number", name=f"{ERASURES}_project_id_number_key"),
        sa.ForeignKeyConstraint(
            ["project_id", "sequence"],
            [f"ledger.{LEDGER}.project_id", f"ledger.{LEDGER}.sequence"],
            name=f"{ERASURES}_project_id_sequence_fkey",
            ondelete="RESTRICT",
        ),
        sa.CheckConstraint("btrim(reason) <> ''", name=op.f(f"{ERASURES}_reason_check")),
        sa.CheckConstraint(
            "number > 0 AND octet_length(hash) = 32", name=op.f(f"{ERASURES}_chain_check")
        ),
        schema="ledger",
    )
    op.create_execution_chain(LEDGER)
    op.make_append_only(LEDGER, guard="guard_execution")
    op.make_append_only(HEADS, guard="guard_head")
    op.make_append_only(ERASURES)
    op.create_row_policy(LEDGER, rule="users and projects")
    op.create_row_policy(HEADS, rule="projects")
    op.create_row_policy(ERASURES, rule="projects")


def downgrade() -> None:
    op.drop_row_policy(ERASURES, rule="projects")
    op.drop_row_policy(HEADS, rule="projects")
    op.drop_row_policy(LEDGER, rule="users and projects")
    op.drop_append_only(ERASURES)
    op.drop_append_only(HEADS, guard="guard_head")
    op.drop_append_only(LEDGER, guard="guard_execution")
    op.drop_execution_chain(LEDGER)
    op.drop_ledger_table(ERASURES)
    op.drop_ledger_table(HEADS)
    op.drop_ledger_table(LEDGER)
