"""Sums of runs by day, project, agent and status, so that statistics read no JSON."""

from datetime import timedelta

from alembic import op

from ledger.ddl.objects import Fold

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

CONTRIBUTIONS = """SELECT created_at AS moment, project_id, agent_id, status,
  total_cost_cents, duration_ms,
  CASE WHEN total_cost_cents > 0 THEN ceil(48 * log(total_cost_cents::double precision))\
 ELSE -32768 END::smallint AS cost_bin
FROM inserted"""

KEYS = ("project_id", "agent_id", "status")
MEASURES = (
    ("executions", "bigint", "count(*)"),
    ("total_cost_cents", "numeric(38, 12)", "sum(total_cost_cents)"),
    ("least_cost_cents", "numeric(24, 12)", "min(total_cost_cents)"),
    ("greatest_cost_cents", "numeric(24, 12)", "max(total_cost_cents)"),
    ("duration_ms", "numeric(38)", "sum(duration_ms)"),
)

SUMS = {
    "table": "execution_ledger",
    "trigger": "execution_ledger_adds_to_sums",
    "contributions": CONTRIBUTIONS,
    "keys": (("project_id", "uuid"), ("agent_id", "text"), ("status", "text")),
    "measures": (*MEASURES, ("cost_bins", "smallint[]", "array_agg(cost_bin)")),
    "folds": (
        Fold(
            name="execution_days",
            bucket=timedelta(days=1),
            keys=KEYS,
            measures=tuple(name for name, _, _ in MEASURES),
            found_by=("project_id",),
            led_by="agent_id",
        ),
        Fold(
            name="execution_costs",
            bucket=timedelta(days=1),
            keys=KEYS,
            measures=(),
            element="cost_bins",
            counted="executions",
            found_by=("project_id",),
            led_by="agent_id",
        ),
    ),
    "rule": "projects",
}


def upgrade() -> None:
    op.create_running_sums("execution_deltas", **SUMS)


def downgrade() -> None:
    op.drop_running_sums("execution_deltas", **SUMS)
