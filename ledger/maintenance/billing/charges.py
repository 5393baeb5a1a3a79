"""The statement that recomputes what each call cost by its own price, and what was charged for it.

In numeric, which is exact: rows that are right are only counted, and never leave the database.
"""

# ruff: noqa: S608 - the names are ours, and values are bound

from __future__ import annotations

from datetime import UTC
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, DateTime, bindparam, text

from ledger.maintenance.billing.charge_checks import (
    OF_CALL,
    OF_CALLS,
    OF_CORRECTIONS,
    PRICED_BY,
    differences,
)
from ledger.records.billing_reconciliation import ChargeDifference, ChargesReconciled, Findings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import TextClause

    from ledger.queries.query import AnyRow
    from ledger.window import Window

_AMOUNTS: Final = frozenset(
    ("vendor_cost", "credit_value_usd", "credits_deducted", "charge_usd", "gross_margin_usd")
)

_IN_WINDOW: Final = "{moment} >= :window_from AND {moment} < :window_to"


def _rated(tokens: str, rate: str) -> str:
    """What these tokens cost, a million times over; NULL where there are some and no rate."""
    return f"CASE WHEN {tokens} = 0 THEN 0 ELSE ({tokens}) * {rate} END"


def _units(price: str) -> str:
    """What a call costs by the price, exactly, in units of the twelfth decimal of a dollar."""
    given = f"{price}.input_usd_per_million", f"{price}.output_usd_per_million"
    # A part without a rate of its own has no discount, and no premium.
    parts = (
        _rated("call.input_tokens - call.cache_read_tokens - call.cache_write_tokens", given[0]),
        _rated(
            "call.cache_read_tokens", f"coalesce({price}.cache_read_usd_per_million, {given[0]})"
        ),
        _rated(
            "call.cache_write_tokens", f"coalesce({price}.cache_write_usd_per_million, {given[0]})"
        ),
        _rated("call.output_tokens - call.reasoning_tokens", given[1]),
        _rated("call.reasoning_tokens", f"coalesce({price}.reasoning_usd_per_million, {given[1]})"),
    )
    together = "\n    + ".join(parts)
    return f"({together}) * 1000000"


def _half_even(units: str) -> str:
    """Dollars. `round` goes from a half away from zero; half of what ends in .5 is no half."""
    return (
        f"CASE WHEN abs({units} - trunc({units})) = 0.5 THEN 2 * round({units} * 0.5)"
        f" ELSE round({units}) END * 0.000000000001"
    )


def _fewest_credits(cost: str, multiplier: str, stored: str) -> str:
    """The fewest credits that cover it, in whole numbers, as the digits of a quotient end.

    None for what failed and was not charged.
    """
    worth, credit = f"{cost} * {multiplier}", "nullif(credit_value_usd, 0)"
    fewest = f"div({worth}, {credit}) + greatest(sign(mod({worth}, {credit})), 0)"
    return f"CASE WHEN status <> 'success' AND {stored} = 0 THEN 0 ELSE {fewest} END"


def _calls() -> str:
    """The window's calls, each part by the index that has it."""
    return "\nUNION ALL ".join(
        f"SELECT * FROM ledger.token_usage_ledger WHERE status {sign} 'success'"
        f" AND kind = 'usage' AND {_IN_WINDOW.format(moment='created_at')}"
        for sign in ("=", "<>")
    )


_LAST: Final = "(array_agg({0} ORDER BY created_at DESC, recorded_at DESC, id DESC))[1] AS {0}"
_ORDER: Final = "made_at, user_id, request_id, found_in, what"
_STATEMENT: Final = f"""WITH calls AS NOT MATERIALIZED (
{_calls()}),
corrections AS NOT MATERIALIZED (SELECT * FROM ledger.token_usage_ledger
WHERE kind <> 'usage' AND {_IN_WINDOW.format(moment="adjusts_created_at")}),
refunded AS (
SELECT user_id, adjusts_id, sum(credits_deducted) AS credits_deducted,
  min(ARRAY[created_at, recorded_at]) AS since
FROM corrections WHERE kind = 'refund' GROUP BY user_id, adjusts_id),
adjusted AS (
SELECT user_id, adjusts_id, sum(vendor_cost) AS vendor_cost, sum(charge_usd) AS charge_usd,
  sum(c.credits_deducted) AS credits_deducted, sum(gross_margin_usd) AS gross_margin_usd,
  -- A refunded call keeps its charge: what it costs by then is what is charged for.
  sum(vendor_cost) FILTER (WHERE since IS NULL OR ARRAY[created_at, recorded_at] < since)
    AS charged_cost,
  {_LAST.format("price_id")}, {_LAST.format("margin_multiplier")}
FROM corrections c LEFT JOIN refunded USING (user_id, adjusts_id)
WHERE kind = 'adjustment' GROUP BY user_id, adjusts_id),
priced_calls AS (
SELECT call.user_id, call.request_id, call.kind, call.status, call.provider_id, call.model_id,
  call.service_tier, call.pricing_status, call.price_id, call.vendor_cost, call.margin_multiplier,
  call.credit_value_usd, call.credits_deducted, call.charge_usd, call.gross_margin_usd,
  call.created_at, call.created_at AS made_at, call.input_tokens AS call_input_tokens,
  {PRICED_BY},
  {_units("price")} AS units,
  known_user.id IS NOT NULL AS has_user, known_provider.id IS NOT NULL AS has_provider,
  coalesce(call.vendor_cost, 0) + coalesce(adjusted.charged_cost, 0) AS charged_cost,
  coalesce(call.credits_deducted, 0) + coalesce(adjusted.credits_deducted, 0)
    + coalesce(refunded.credits_deducted, 0) AS net_credits,
  adjusted.user_id IS NOT NULL AS is_adjusted, new.id IS NOT NULL AS has_new_price,
  coalesce(call.vendor_cost, 0) + adjusted.vendor_cost AS whole_cost,
  coalesce(call.charge_usd, 0) + adjusted.charge_usd AS whole_charge,
  coalesce(call.credits_deducted, 0) + adjusted.credits_deducted AS whole_credits,
  coalesce(call.gross_margin_usd, 0) + adjusted.gross_margin_usd AS whole_margin,
  coalesce(call.margin_multiplier, adjusted.margin_multiplier) AS whole_multiplier,
  CASE WHEN new.id IS NOT NULL THEN {_units("new")} END AS new_units, call.stated_cost
FROM calls AS call
LEFT JOIN ledger.model_prices AS price ON price.id = call.price_id
LEFT JOIN adjusted ON adjusted.user_id = call.user_id AND adjusted.adjusts_id = call.id
LEFT JOIN refunded ON refunded.user_id = call.user_id AND refunded.adjusts_id = call.id
LEFT JOIN ledger.users AS known_user ON known_user.id = call.user_id
LEFT JOIN ledger.providers AS known_provider ON known_provider.id = call.provider_id
LEFT JOIN ledger.model_prices AS new ON new.id = adjusted.price_id
OFFSET 0),
recomputed_calls AS (
SELECT *, CASE pricing_status WHEN 'priced' THEN {_half_even("units")}
    WHEN 'stated' THEN vendor_cost END AS own_cost,
  {_fewest_credits("vendor_cost", "margin_multiplier", "credits_deducted")} AS own_credits,
  coalesce(stated_cost, {_half_even("new_units")}) AS adjusted_cost,
  {_fewest_credits("charged_cost", "whole_multiplier", "whole_credits")} AS adjusted_credits
FROM priced_calls OFFSET 0),
recomputed_corrections AS (
SELECT correction.*, correction.adjusts_created_at AS made_at, {PRICED_BY},
  call.created_at AS call_made_at, call.input_tokens AS call_input_tokens,
  {OF_CALL}
FROM corrections AS correction
LEFT JOIN ledger.model_prices AS price ON price.id = correction.price_id
LEFT JOIN calls AS call ON call.user_id = correction.user_id AND call.id = correction.adjusts_id
OFFSET 0),
differences AS MATERIALIZED (
{differences("recomputed_calls", OF_CALLS)}
UNION ALL
{differences("recomputed_corrections", OF_CORRECTIONS)})
SELECT totals.*, kept.* FROM (
  SELECT (SELECT count(*) FROM differences) AS found, (SELECT count(*) FROM calls) AS calls,
    (SELECT count(*) FROM corrections) AS corrections
) AS totals LEFT JOIN (SELECT * FROM differences ORDER BY {_ORDER} LIMIT :first) AS kept ON true
ORDER BY {_ORDER}"""

_MOMENT: Final = DateTime(timezone=True)
CHARGES_COMPARED: Final[TextClause] = text(_STATEMENT).bindparams(
    bindparam("window_from", type_=_MOMENT),
    bindparam("window_to", type_=_MOMENT),
    bindparam("first", type_=BigInteger()),
)


def asked_of(window: Window, first: int) -> dict[str, Any]:
    """What the statement binds."""
    return {"window_from": window.start, "window_to": window.end, "first": first}


def reconciled(rows: Sequence[AnyRow]) -> ChargesReconciled:
    """What its rows say: totals in each, and a difference in each where there is any."""
    return ChargesReconciled(
        calls=rows[0].calls,
        corrections=rows[0].corrections,
        differences=Findings(
            count=rows[0].found,
            first=tuple(_difference(row) for row in rows if row.what is not None),
        ),
    )


def _difference(row: AnyRow) -> ChargeDifference:
    def value(written: str | None) -> Decimal | str | None:
        return Decimal(written) if written is not None and row.what in _AMOUNTS else written

    return ChargeDifference(
        user_id=row.user_id,
        request_id=row.request_id,
        created_at=row.created_at.astimezone(UTC),
        kind=row.found_in,
        what=row.what,
        stored=value(row.stored),
        expected=value(row.expected),
    )
