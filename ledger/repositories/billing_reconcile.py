"""How the billing ledger is reconciled, where its reads go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.maintenance.billing.reconcile import FIRST, reconcile

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ledger.records.billing_reconciliation import BillingReconciliation
    from ledger.window import Window


class BillingReconciling:
    """What reconciles, called."""

    if TYPE_CHECKING:  # the repository's

        def _long_read(self) -> AbstractContextManager[Connection]: ...

    def reconcile(self, window: Window, *, first: int = FIRST) -> BillingReconciliation:
        """Recompute the books of a window, and report everything that does not agree.

        Three parts, of statements that each see one moment, whatever is written or folded
        meanwhile; of each kind of difference the exact count and the ``first`` are given, at
        most 1,000:

        - every sum of the whole hours and of the whole days (UTC) that the window touches,
          added up from the rows, against what is folded and what waits to be;
        - every call of the window and its corrections, priced anew by the price that the row
          names, rounded half-even; that price against the call; and credits, charge and margin.
          Whether another price holds by now is what ``reprice`` says;
        - the window's calls in the telemetry ledger against the bills, by user and request id,
          from ``compared_from`` on, as before it raw rows are not kept. A call that is recorded
          in one ledger and not yet in the other is a difference until it is in both, so end the
          window before the present.

        Reads of a connection of the caller's are planned by its settings. Raises
        PermissionMissing for a role that does not see every row, InvalidArgument, SchemaNotReady,
        DatabaseUnavailable.
        """
        with self._long_read() as connection:
            return reconcile(connection, window, first)


class AsyncBillingReconciling:
    """What reconciles, awaited."""

    if TYPE_CHECKING:  # the repository's

        def _long_read(self) -> AbstractAsyncContextManager[AsyncConnection]: ...

    async def reconcile(self, window: Window, *, first: int = FIRST) -> BillingReconciliation:
        """Recompute the books of a window, and report everything that does not agree.

        As `Billing.reconcile`.
        """
        async with self._long_read() as connection:
            return await connection.run_sync(reconcile, window, first)
