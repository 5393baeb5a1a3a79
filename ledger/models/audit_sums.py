"""The sums that are kept over `execution_ledger`, and how rows add to them."""

from __future__ import annotations

from typing import Final

from ledger.models.billing_sums import BINS_A_DECADE, FREE

EXECUTION_DELTAS: Final = "execution_deltas"
EXECUTION_DAYS: Final = "execution_days"
EXECUTION_COSTS: Final = "execution_costs"

EXECUTION_KEYS: Final = (("project_id", "uuid"), ("agent_id", "text"), ("status", "text"))

EXECUTION_COST_BIN: Final = (
    "CASE WHEN total_cost_cents > 0"
    f" THEN ceil({BINS_A_DECADE} * log(total_cost_cents::double precision))"
    f" ELSE {FREE} END::smallint"
)

EXECUTION_CONTRIBUTIONS: Final = f"""SELECT created_at AS moment, project_id, agent_id, status,
  total_cost_cents, duration_ms,
  {EXECUTION_COST_BIN} AS cost_bin
FROM inserted"""  # noqa: S608 - no value in it

EXECUTION_SUMS: Final = (
    ("executions", "bigint", "count(*)"),
    ("total_cost_cents", "numeric(38, 12)", "sum(total_cost_cents)"),
    ("least_cost_cents", "numeric(24, 12)", "min(total_cost_cents)"),
    ("greatest_cost_cents", "numeric(24, 12)", "max(total_cost_cents)"),
    ("duration_ms", "numeric(38)", "sum(duration_ms)"),
)

EXECUTION_COST_BINS: Final = ("cost_bins", "smallint[]", "array_agg(cost_bin)")
