"""Reconciling the billing ledger: some statements, each of which sees one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from ledger.errors import InvalidArgument, PermissionMissing
from ledger.maintenance.billing import calls, charges, sums
from ledger.records.billing_reconciliation import BillingReconciliation
from ledger.window import require_window

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ledger.window import Window

FIRST: Final = 100
MOST: Final = 1_000
"""So that the report of books that are all wrong has a size too."""

_SEES_ALL: Final = text(
    "SELECT NOT row_security_active('ledger.token_usage_ledger') OR ledger.sees_all()"
)


def reconcile(connection: Connection, window: Window, first: int) -> BillingReconciliation:
    """Recompute the window's books, and keep the ``first`` of each kind of finding."""
    require_window(window)
    if not 0 <= first <= MOST:
        raise InvalidArgument(f"first {first} is not between 0 and {MOST}")
    try:
        asked = [part.asked_of(window, first) for part in (sums, charges, calls)]
    except OverflowError as error:
        raise InvalidArgument(
            f"the days around {window.start.isoformat()} and {window.end.isoformat()} reach"
            " beyond the calendar"
        ) from error
    if not connection.scalar(_SEES_ALL):
        # Rows that are hidden would be sums that are wrong.
        raise PermissionMissing(
            "this role does not see every row of the billing ledger; reconcile as its owner, or as"
            " a role granted service or auditor, without ledger.user_id set"
        )
    of_sums, of_charges, of_calls = asked
    return BillingReconciliation(
        window=window,
        sums=sums.reconciled(
            window,
            [connection.execute(statement, of_sums).all() for statement in sums.SUMS_COMPARED],
            first,
        ),
        charges=charges.reconciled(connection.execute(charges.CHARGES_COMPARED, of_charges).all()),
        calls=calls.reconciled(window, connection.execute(calls.CALLS_COMPARED, of_calls).all()),
    )
