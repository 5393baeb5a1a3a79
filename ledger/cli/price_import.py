"""`ledger prices import`: add the prices of a catalogue or a file to those that are recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ledger.cli.console import busy, hint, say_json
from ledger.cli.database import Database
from ledger.cli.failures import FOUND_SOMETHING
from ledger.cli.price_plan import PricePlan, planned
from ledger.cli.price_report import PriceImport
from ledger.cli.price_sources import GENAI, Source, called_otherwise, read
from ledger.cli.price_words import say_import
from ledger.cli.questions import JSON
from ledger.errors import InvalidArgument
from ledger.records.report import WriteReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.records.prices import ModelPrice
    from ledger.repositories.ledger import Ledger

BATCH: Final = 1_000
"""So that an import of thousands holds no transaction for long."""


def import_(  # noqa: PLR0913 - options
    database: Database,
    *,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="genai|FILE",
            help="The catalogue of genai-prices (extra `prices`), or a .csv or .json file.",
        ),
    ] = GENAI,
    provider: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this one's. Repeatable. By default all."),
    ] = None,
    text_only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A model of the catalogue that takes more than text, and is sent text alone."
            " Repeatable.",
        ),
    ] = None,
    called: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="NAME=YOURS",
            help="A provider of the catalogue that calls are recorded of by another name."
            " Repeatable.",
        ),
    ] = None,
    from_now: Annotated[
        bool,
        typer.Option(
            "--from-now", help="Where the catalogue has changed a price, let it hold from now on."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be added and change nothing.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Add prices to those that are recorded. Running it again adds what is new.

    A recorded price never changes, and calls keep the price that they were booked at. Where the
    catalogue now says another rate for the same moment, that is a conflict, and exits with 1;
    with --from-now the new rate is added as one that holds from now on, and conflicts about the
    past are kept as they are. Only prices of an earlier import follow the catalogue: where a
    service tier of a model has a price of your own, the catalogue adds none.
    """
    if from_now and source != GENAI:
        raise InvalidArgument(
            "--from-now is about the catalogue; a file says in effective_from when a price begins"
        )
    with database.ledger() as ledger:
        with busy("Reading prices"):
            recorded = ledger.billing.model_prices()
            found = read(
                source,
                ledger,
                recorded,
                text_only=text_only or [],
                called=called_otherwise(called or []),
            )
        found = found.of_providers(provider or [])
        plan = planned(found.prices, recorded, origin=found.origin, now=datetime.now(UTC))
        new = [*plan.new, *(change.said for change in plan.changes if from_now)]
        report = WriteReport(inserted=len(new))
        unknown = sorted({price.provider for price in new} - {each.provider for each in recorded})
        if not dry_run:
            with busy("Adding prices"):
                report = _added(ledger, new, unknown)
    result = _result(found, plan, report, unknown, is_dry_run=dry_run, is_from_now=from_now)
    if as_json:
        say_json(result.to_dict())
    else:
        say_import(result)
        hint(f"Next: ledger prices {'import' if dry_run else 'unpriced'}")
    if result.conflicting or result.rejected:
        raise typer.Exit(FOUND_SOMETHING)


def _added(ledger: Ledger, new: Sequence[ModelPrice], unknown: Sequence[str]) -> WriteReport:
    for name in unknown:
        ledger.tenancy.upsert_provider(name)
    report = WriteReport()
    for first in range(0, len(new), BATCH):
        report += ledger.billing.add_prices(new[first : first + BATCH])
    return report


def _result(  # noqa: PLR0913 - what a result is made of
    source: Source,
    plan: PricePlan,
    report: WriteReport,
    unknown: Sequence[str],
    *,
    is_dry_run: bool,
    is_from_now: bool,
) -> PriceImport:
    return PriceImport(
        source=source.name,
        is_dry_run=is_dry_run,
        inserted=report.inserted,
        known=plan.known + report.duplicates,
        overruled=plan.overruled,
        new_providers=tuple(unknown),
        from_now=plan.changes if is_from_now else (),
        kept=plan.others if is_from_now else (),
        conflicting=() if is_from_now else (*plan.changes, *plan.others),
        rejected=report.rejected,
        left_out=tuple(source.left_out),
    )
