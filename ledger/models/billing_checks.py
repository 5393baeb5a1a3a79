"""What holds in every row of `token_usage_ledger`, a CHECK a rule."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint

_IS_USAGE: Final = "kind = 'usage'"
_IS_UNPRICED: Final = "pricing_status = 'unpriced'"
_MONEY: Final = ("vendor_cost", "charge_usd", "credits_deducted", "gross_margin_usd")

# Without a division, whose digits end somewhere: the least number of credits that covers it.
_COVERS: Final = (
    "credits_deducted * credit_value_usd >= vendor_cost * margin_multiplier"
    " AND (credits_deducted - 1) * credit_value_usd < vendor_cost * margin_multiplier"
)


def usage_checks() -> tuple[CheckConstraint, ...]:
    """The rules, for the one table that they are made for."""
    return (
        CheckConstraint("ledger.uuid_time(id) = created_at", name="id_time"),
        CheckConstraint(
            "request_id <> '' AND model_id <> '' AND tier <> '' AND service_tier <> ''",
            name="names",
        ),
        CheckConstraint("kind IN ('usage', 'adjustment', 'refund')", name="kind"),
        CheckConstraint(
            f"({_IS_USAGE}) = (adjusts_id IS NULL)"
            f" AND ({_IS_USAGE}) = (adjusts_created_at IS NULL)",
            name="adjusts",
        ),
        CheckConstraint("adjusts_id <> id", name="adjusts_another"),
        CheckConstraint(f"{_IS_USAGE} OR pricing_status <> 'unpriced'", name="corrected_amounts"),
        CheckConstraint(
            "kind <> 'refund' OR (vendor_cost = 0 AND credits_deducted <= 0)", name="refund"
        ),
        CheckConstraint("status IN ('success', 'failed', 'cancelled')", name="status"),
        CheckConstraint("usage_source IN ('provider', 'estimated')", name="usage_source"),
        CheckConstraint(
            "input_tokens >= 0 AND cache_read_tokens >= 0 AND cache_write_tokens >= 0"
            " AND cache_read_tokens::numeric + cache_write_tokens <= input_tokens",
            name="input_tokens",
        ),
        CheckConstraint(
            "output_tokens >= 0 AND reasoning_tokens BETWEEN 0 AND output_tokens",
            name="output_tokens",
        ),
        CheckConstraint(
            f"{_IS_USAGE} OR (input_tokens = 0 AND output_tokens = 0)", name="corrected_tokens"
        ),
        CheckConstraint("latency_ms >= 0", name="latency"),
        CheckConstraint("pricing_status IN ('priced', 'stated', 'unpriced')", name="pricing"),
        CheckConstraint(
            "(pricing_status = 'priced') = (price_id IS NOT NULL)"
            f" AND ({_IS_UNPRICED}) = (unpriced_reason IS NOT NULL)",
            name="priced_by",
        ),
        CheckConstraint(
            " AND ".join(f"({_IS_UNPRICED}) = ({amount} IS NULL)" for amount in _MONEY)
            + f" AND ({_IS_UNPRICED} OR margin_multiplier IS NOT NULL)",
            name="unpriced",
        ),
        CheckConstraint(
            "vendor_cost <> 'NaN' AND charge_usd <> 'NaN' AND gross_margin_usd <> 'NaN'"
            " AND (kind <> 'usage' OR (vendor_cost >= 0 AND credits_deducted >= 0))",
            name="money",
        ),
        CheckConstraint(
            f"stated_cost IS NULL OR ({_IS_UNPRICED} AND stated_cost >= 0"
            " AND stated_cost <> 'NaN')",
            name="stated_cost",
        ),
        CheckConstraint("margin_multiplier >= 0 AND margin_multiplier <> 'NaN'", name="multiplier"),
        CheckConstraint("credit_value_usd > 0 AND credit_value_usd <> 'NaN'", name="credit_value"),
        CheckConstraint(
            f"kind <> 'usage' OR (status <> 'success' AND credits_deducted = 0) OR ({_COVERS})",
            name="credits",
        ),
        CheckConstraint("charge_usd = credits_deducted * credit_value_usd", name="charge"),
        CheckConstraint("gross_margin_usd = charge_usd - vendor_cost", name="margin"),
    )
