"""What can be wrong of a booked row: when it is, what it has and what it should have, as SQL."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PRICED_BY: Final = """price.id IS NOT NULL AS has_price, price.provider_id AS price_provider_id,
  price.model_id AS price_model_id, price.service_tier AS price_service_tier,
  price.effective_from, price.context_tokens_from"""
"""What of the price that a row names is compared with the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What can be wrong of a row, when it is, and what there is and should be: SQL all three."""

    what: str
    stored: str
    expected: str
    is_wrong: str
    kind: str = "kind"


def _amount(what: str, stored: str, expected: str, where: str, kind: str = "kind") -> Check:
    return Check(
        what=what,
        stored=stored,
        expected=expected,
        is_wrong=f"{where} AND {stored} IS DISTINCT FROM {expected}",
        kind=kind,
    )


def _written(moment: str) -> str:
    return f"to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"


_OF_PRICE: Final = (
    Check(
        what="price_id",
        stored="price_id",
        expected="NULL",
        is_wrong="pricing_status = 'priced' AND NOT has_price",
    ),
    *(
        Check(
            what=f"price.{name}",
            stored=f"price_{name}",
            expected=name,
            is_wrong=f"has_price AND price_{name} <> {name}",
        )
        for name in ("provider_id", "model_id", "service_tier")
    ),
    Check(
        what="price.effective_from",
        stored=_written("effective_from"),
        expected=_written("made_at"),
        is_wrong="has_price AND effective_from > made_at",
    ),
    Check(
        what="price.context_tokens_from",
        stored="context_tokens_from",
        expected="call_input_tokens",
        is_wrong="has_price AND context_tokens_from > call_input_tokens",
    ),
)
_OF_CHARGE: Final = (
    _amount("charge_usd", "charge_usd", "credits_deducted * credit_value_usd", "true"),
    _amount("gross_margin_usd", "gross_margin_usd", "charge_usd - vendor_cost", "true"),
)
OF_CALLS: Final = (
    # Without foreign keys, as a restore may leave it, they could be gone.
    Check(what="user_id", stored="user_id", expected="NULL", is_wrong="NOT has_user"),
    Check(what="provider_id", stored="provider_id", expected="NULL", is_wrong="NOT has_provider"),
    *_OF_PRICE,
    _amount("vendor_cost", "vendor_cost", "own_cost", "(has_price OR pricing_status <> 'priced')"),
    _amount("credits_deducted", "credits_deducted", "own_credits", "true"),
    *_OF_CHARGE,
    _amount(
        "vendor_cost",
        "whole_cost",
        "adjusted_cost",
        "is_adjusted AND (has_new_price OR stated_cost IS NOT NULL)",
        "'adjusted'",
    ),
    _amount("credits_deducted", "whole_credits", "adjusted_credits", "is_adjusted", "'adjusted'"),
    Check(
        what="credits_deducted",
        stored="net_credits",
        expected="0",
        is_wrong="net_credits < 0",
        kind="'refunded'",
    ),
    _amount(
        "charge_usd",
        "whole_charge",
        "whole_credits * credit_value_usd",
        "is_adjusted",
        "'adjusted'",
    ),
    _amount(
        "gross_margin_usd", "whole_margin", "whole_charge - whole_cost", "is_adjusted", "'adjusted'"
    ),
)
_AS_CALLED: Final = (
    "provider_id",
    "model_id",
    "project_id",
    "status",
    "tier",
    "service_tier",
    "credit_value_usd",
)
OF_CALL: Final = ",\n  ".join(f"call.{name} AS call_{name}" for name in _AS_CALLED)
"""What of the call that a row corrects is compared with the row."""

OF_CORRECTIONS: Final = (
    *_OF_PRICE,
    *(
        Check(
            what=name,
            stored=name,
            expected=f"call_{name}",
            is_wrong=f"call_made_at IS NOT NULL AND {name} IS DISTINCT FROM call_{name}",
        )
        for name in _AS_CALLED
    ),
    Check(
        what="adjusts_created_at",
        stored=_written("made_at"),
        expected=_written("call_made_at"),
        is_wrong="made_at IS DISTINCT FROM call_made_at",
    ),
    *_OF_CHARGE,
)


def differences(relation: str, checks: Sequence[Check]) -> str:
    """A row for each thing that is wrong.

    A row of the relation is looked at once, and taken apart only where something is: VALUES of
    all checks for each row took five times as long.
    """
    wrong = "\n  OR ".join(f"({check.is_wrong})" for check in checks)
    values = ",\n  ".join(
        f"({check.kind}, '{check.what}', {check.is_wrong}, ({check.stored})::text,"
        f" ({check.expected})::text)"
        for check in checks
    )
    return f"""SELECT made_at, user_id, request_id, created_at, v.*
FROM (SELECT * FROM {relation} WHERE {wrong} OFFSET 0) AS wrong
CROSS JOIN LATERAL (VALUES
  {values}) AS v (found_in, what, is_wrong, stored, expected)
WHERE v.is_wrong"""
