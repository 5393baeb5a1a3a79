"""The sums that are kept over `token_usage_ledger`, and how rows add to them."""

from __future__ import annotations

from typing import Final

BINS_A_DECADE: Final = 48
"""Costs of one bin differ by less than 4.92 %, so its middle is within 2.4 % of each."""
FREE: Final = -32_768
"""The bin of calls that cost nothing."""

COST_BIN: Final = (
    f"CASE WHEN vendor_cost > 0 THEN ceil({BINS_A_DECADE} * log(vendor_cost::double precision))"
    f"\n    WHEN vendor_cost = 0 THEN {FREE} END::smallint"
)

DELTAS: Final = "token_usage_deltas"
USER_DELTAS: Final = "token_usage_user_deltas"
HOURS: Final = "token_usage_hours"
DAYS: Final = "token_usage_days"
MODEL_DAYS: Final = "token_usage_model_days"
COSTS: Final = "token_usage_costs"
ALL_COSTS: Final = "token_usage_all_costs"
USER_DAYS: Final = "token_usage_user_days"

SUM_KEYS: Final = (
    ("provider_id", "uuid"),
    ("model_id", "text"),
    ("status", "text"),
    ("tier", "text"),
)
USER_KEYS: Final = (("user_id", "uuid"), ("status", "text"))
"""Of deltas of their own: with all keys in one, nearly each row would be a delta."""


def _contributions(keys: tuple[tuple[str, str], ...], *more: tuple[str, str]) -> str:
    """What rows add to sums; ``more`` is a column of calls, and its SQL.

    A call adds to its own hour; a correction to the hour it is booked in, and apart from that
    to the hour of the call that it corrects.
    """
    names = ", ".join(name for name, _ in keys)
    of_calls = "".join(f",\n  {sql} AS {name}" for name, sql in more)
    of_restated = "".join(", NULL" for _ in more)
    return f"""SELECT created_at AS moment, {names},
  CASE WHEN kind = 'usage' THEN 'made' ELSE 'corrected' END AS part, pricing_status,
  input_tokens, output_tokens, vendor_cost, charge_usd, credits_deducted{of_calls}
FROM inserted
UNION ALL
SELECT adjusts_created_at, {names}, 'restated', pricing_status,
  0, 0, vendor_cost, charge_usd, credits_deducted{of_restated}
FROM inserted WHERE kind <> 'usage'"""  # noqa: S608 - no value in it


CONTRIBUTIONS: Final = _contributions(SUM_KEYS, ("cost_bin", COST_BIN))
USER_CONTRIBUTIONS: Final = _contributions(USER_KEYS)

_AMOUNTS: Final = (
    ("vendor_cost", "numeric(38, 12)"),
    ("charge_usd", "numeric(38, 12)"),
    ("credits_deducted", "numeric(38)"),
)


def _amounts(prefix: str, part: str) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (f"{prefix}{name}", kind, f"coalesce(sum({name}) FILTER (WHERE part = '{part}'), 0)")
        for name, kind in _AMOUNTS
    )


SUMS: Final = (
    ("requests", "bigint", "count(*) FILTER (WHERE part = 'made')"),
    (
        "unpriced_requests",
        "bigint",
        "count(*) FILTER (WHERE part = 'made' AND pricing_status = 'unpriced')",
    ),
    ("input_tokens", "numeric(38)", "sum(input_tokens)"),
    ("output_tokens", "numeric(38)", "sum(output_tokens)"),
    *_amounts("", "made"),
    *_amounts("corrected_", "corrected"),
    *_amounts("restated_", "restated"),
)
"""What is added up. The margin is not: it is the charge less the cost, also of sums."""

COST_BINS: Final = (
    "cost_bins",
    "smallint[]",
    "coalesce(array_agg(cost_bin) FILTER (WHERE part = 'made' AND cost_bin IS NOT NULL), '{}')",
)
