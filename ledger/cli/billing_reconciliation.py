"""`ledger reconcile --billing`: each part of the books, and what in it does not agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from ledger.cli.console import busy, printable, say, say_json
from ledger.cli.failures import FOUND_SOMETHING
from ledger.cli.figures import count, counted, moment

if TYPE_CHECKING:
    from ledger.cli.database import Database
    from ledger.records.billing_reconciliation import BillingReconciliation, Findings
    from ledger.window import Window

_MOST_SHOWN = 20


def reconcile_billing(database: Database, window: Window, *, as_json: bool) -> None:
    """Reconcile, say what was found, and end the command with 1 where something was."""
    with database.ledger() as ledger, busy("Reconciling"):
        found = ledger.billing.reconcile(window)
    if as_json:
        say_json(found.to_dict())
    else:
        _say_reconciliation(found)
    if not found.is_clean:
        raise typer.Exit(FOUND_SOMETHING)


def _say_reconciliation(found: BillingReconciliation) -> None:
    sums, charges, calls = found.sums, found.charges, found.calls
    say(
        f"Sums: {moment(sums.days.start)} to {moment(sums.days.end)} UTC,"
        f" {counted(sums.rows, 'row')}."
    )
    _say(sums.differences, "sum differs", "sums differ")
    say(
        f"Charges: {counted(charges.calls, 'call')} and"
        f" {counted(charges.corrections, 'correction')}."
    )
    _say(charges.differences, "value is not what follows", "values are not what follows")
    if calls.compared_from is None:
        say("Calls: the telemetry ledger keeps no raw rows of the window, so none were compared.")
    else:
        say(
            f"Calls: {count(calls.calls)} in the telemetry ledger from"
            f" {moment(calls.compared_from)} UTC, {counted(calls.bills, 'bill')}."
        )
    _say(calls.never_billed, "call was never billed", "calls were never billed")
    _say(calls.without_a_call, "bill is without a call", "bills are without a call")
    _say(calls.differing_costs, "cost differs", "costs differ")
    _say_unknown(found)
    say(
        "The books are what their rows say."
        if found.is_clean
        else f"{counted(found.differences_found, 'difference')}."
    )


def _say(findings: Findings[Any], one: str, many: str) -> None:
    if not findings.count:
        return
    say(f"{count(findings.count)} {one if findings.count == 1 else many}:")
    for finding in findings.first[:_MOST_SHOWN]:
        say(f"  {printable(str(finding))}")
    if (more := findings.count - _MOST_SHOWN) > 0:
        say(f"  ... and {count(more)} more; --json shows up to {count(len(findings.first))}.")


def _say_unknown(found: BillingReconciliation) -> None:
    """What is no difference, and good to know."""
    calls = found.calls
    for number, words in (
        (calls.calls_without_request_id, "without a request_id, and linked to no bill"),
        (calls.costs_only_in_telemetry, "unpriced in the billing ledger alone"),
        (calls.costs_only_in_billing, "of unknown cost in the telemetry ledger alone"),
    ):
        if number:
            say(f"{counted(number, 'call')} {words}.")
