"""The statement that compares bills with the telemetry ledger's calls, by user and request id.

One join of the two, a day wider than the window, as a bill and its call may say slightly
different times; only calls without a bill near them are looked up one by one, in all the books.
"""

# ruff: noqa: S608 - the names are ours, and values are bound

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, DateTime, bindparam, text

from ledger.records.billing_reconciliation import CallDifference, CallsReconciled, Findings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import TextClause

    from ledger.queries.query import AnyRow
    from ledger.window import Window

APART: Final = timedelta(days=1)
"""How far the time of a bill and that of its call may lie from one another."""

_NEVER_BILLED, _WITHOUT_A_CALL, _DIFFERING = "never_billed", "without_a_call", "differing"
_ONLY_IN_TELEMETRY, _ONLY_IN_BILLING = "only_in_telemetry", "only_in_billing"

_NEAR: Final = "{moment} >= :near_from AND {moment} < :near_to"
_COMPARED: Final = (
    "{moment} >= :window_from AND {moment} < :window_to"
    " AND {moment} >= (SELECT compared_from FROM horizon)"
)


def _bills(columns: str, condition: str) -> str:
    """Booked calls, each part by the index that has it."""
    return "\nUNION ALL ".join(
        f"SELECT {columns} FROM ledger.token_usage_ledger WHERE status {sign} 'success'"
        f" AND kind = 'usage' AND {condition.format(moment='created_at')}"
        for sign in ("=", "<>")
    )


_TALLIED: Final = ",\n      ".join(
    f"count(*) FILTER (WHERE what = '{what}') AS {what}"
    for what in (_NEVER_BILLED, _WITHOUT_A_CALL, _DIFFERING, _ONLY_IN_TELEMETRY, _ONLY_IN_BILLING)
)
_ORDER: Final = "what, made_at, user_id, request_id"
_STATEMENT: Final = f"""WITH horizon AS MATERIALIZED (
SELECT greatest(:window_from, ledger.raw_from()) AS compared_from),
requests AS NOT MATERIALIZED (
SELECT user_id, request_id, "timestamp" AS made_at, model, cost_usd,
  {_COMPARED.format(moment='"timestamp"')} AS is_compared
FROM ledger.llm_requests
WHERE request_id IS NOT NULL AND {_NEAR.format(moment='"timestamp"')}),
adjusted AS (
SELECT user_id, adjusts_id, sum(vendor_cost) AS vendor_cost FROM ledger.token_usage_ledger
WHERE kind = 'adjustment' AND kind <> 'usage' AND {_NEAR.format(moment="adjusts_created_at")}
GROUP BY user_id, adjusts_id),
near_bills AS NOT MATERIALIZED (
{_bills("user_id, id, request_id, model_id, vendor_cost, created_at", _NEAR)}),
bills AS NOT MATERIALIZED (
SELECT bill.user_id, bill.request_id, bill.model_id, bill.created_at,
  CASE WHEN adjusted.vendor_cost IS NULL THEN bill.vendor_cost
    ELSE coalesce(bill.vendor_cost, 0) + adjusted.vendor_cost END AS cost_usd,
  {_COMPARED.format(moment="created_at")} AS is_compared
FROM near_bills AS bill
LEFT JOIN adjusted ON adjusted.user_id = bill.user_id AND adjusted.adjusts_id = bill.id),
apart AS MATERIALIZED (
SELECT coalesce(request.user_id, bill.user_id) AS user_id,
  coalesce(request.request_id, bill.request_id) AS request_id,
  coalesce(request.made_at, bill.created_at) AS made_at,
  coalesce(request.model, bill.model_id) AS model,
  request.cost_usd AS telemetry_cost, bill.cost_usd AS billed_cost,
  bill.user_id IS NULL AS has_no_bill, request.user_id IS NULL AS has_no_call
FROM requests AS request
FULL JOIN bills AS bill
  ON bill.user_id = request.user_id AND bill.request_id = request.request_id
WHERE CASE WHEN request.user_id IS NULL THEN bill.is_compared
  ELSE request.is_compared
    AND (bill.user_id IS NULL OR request.cost_usd IS DISTINCT FROM bill.cost_usd) END),
found AS MATERIALIZED (
SELECT apart.user_id, apart.request_id, apart.made_at, apart.model, apart.telemetry_cost,
  CASE WHEN far.id IS NULL THEN apart.billed_cost ELSE far.cost_usd END AS billed_cost,
  CASE WHEN has_no_call THEN '{_WITHOUT_A_CALL}'
    WHEN has_no_bill AND far.id IS NULL THEN '{_NEVER_BILLED}'
    WHEN telemetry_cost IS NULL THEN '{_ONLY_IN_BILLING}'
    WHEN coalesce(apart.billed_cost, far.cost_usd) IS NULL THEN '{_ONLY_IN_TELEMETRY}'
    ELSE '{_DIFFERING}' END AS what
FROM apart LEFT JOIN LATERAL (
  SELECT bill.id, CASE WHEN later.vendor_cost IS NULL THEN bill.vendor_cost
    ELSE coalesce(bill.vendor_cost, 0) + later.vendor_cost END AS cost_usd
  FROM ledger.token_usage_ledger AS bill
  CROSS JOIN LATERAL (
    SELECT sum(vendor_cost) AS vendor_cost FROM ledger.token_usage_ledger AS adjustment
    WHERE adjustment.user_id = bill.user_id AND adjustment.adjusts_id = bill.id
      AND kind = 'adjustment' AND kind <> 'usage') AS later
  WHERE apart.has_no_bill AND bill.kind = 'usage'
    AND bill.user_id = apart.user_id AND bill.request_id = apart.request_id
  LIMIT 1) AS far ON true
WHERE far.id IS NULL OR far.cost_usd IS DISTINCT FROM telemetry_cost),
ranked AS (
SELECT *, row_number() OVER (PARTITION BY what ORDER BY {_ORDER}) AS place
FROM found WHERE what IN ('{_NEVER_BILLED}', '{_WITHOUT_A_CALL}', '{_DIFFERING}'))
SELECT totals.*, kept.* FROM (
  SELECT compared_from, calls, calls_without_request_id,
    (SELECT count(*) FROM ({_bills("1", _COMPARED)}) AS compared) AS bills, tallied.*
  FROM horizon
  CROSS JOIN (
    SELECT count(request_id) AS calls, count(*) - count(request_id) AS calls_without_request_id
    FROM ledger.llm_requests WHERE {_COMPARED.format(moment='"timestamp"')}) AS counted
  CROSS JOIN (
    SELECT {_TALLIED}
    FROM found) AS tallied
) AS totals LEFT JOIN (SELECT * FROM ranked WHERE place <= :first) AS kept ON true
ORDER BY {_ORDER}"""

_MOMENT: Final = DateTime(timezone=True)
CALLS_COMPARED: Final[TextClause] = text(_STATEMENT).bindparams(
    *(
        bindparam(f"{which}_{end}", type_=_MOMENT)
        for which in ("window", "near")
        for end in ("from", "to")
    ),
    bindparam("first", type_=BigInteger()),
)


def asked_of(window: Window, first: int) -> dict[str, Any]:
    """What the statement binds."""
    return {
        "window_from": window.start,
        "window_to": window.end,
        "near_from": window.start - APART,
        "near_to": window.end + APART,
        "first": first,
    }


def reconciled(window: Window, rows: Sequence[AnyRow]) -> CallsReconciled:
    """What its rows say: totals in each, and a difference in each where there is any."""
    totals = rows[0]

    def findings(what: str) -> Findings[CallDifference]:
        first = tuple(_difference(row) for row in rows if row.what == what)
        return Findings(count=getattr(totals, what), first=first)

    compared_from = totals.compared_from.astimezone(UTC)
    return CallsReconciled(
        compared_from=compared_from if compared_from < window.end else None,
        calls=totals.calls,
        calls_without_request_id=totals.calls_without_request_id,
        bills=totals.bills,
        never_billed=findings(_NEVER_BILLED),
        without_a_call=findings(_WITHOUT_A_CALL),
        differing_costs=findings(_DIFFERING),
        costs_only_in_telemetry=totals.only_in_telemetry,
        costs_only_in_billing=totals.only_in_billing,
    )


def _difference(row: AnyRow) -> CallDifference:
    return CallDifference(
        user_id=row.user_id,
        request_id=row.request_id,
        made_at=row.made_at.astimezone(UTC),
        model=row.model,
        telemetry_cost_usd=row.telemetry_cost,
        billed_cost_usd=row.billed_cost,
    )
