"""Prices, imports of them and calls without one, as a person reads them in a terminal."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from rich.text import Text

from ledger.cli.console import hint, printable, say
from ledger.cli.figures import NONE, count, counted, moment
from ledger.cli.price_sources import GENAI
from ledger.cli.tables import plain_table
from ledger.models.prices import RATES
from ledger.records.plain import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from rich.table import Table

    from ledger.cli.price_plan import Difference
    from ledger.cli.price_report import PriceImport
    from ledger.pricing.genai_models import LeftOut
    from ledger.records.billing import UnpricedUsage
    from ledger.records.prices import ModelPrice

SHOWN: Final = 5
NAMES_SHOWN: Final = 3
"""Of lists that ``--json`` has whole."""


def say_import(done: PriceImport) -> None:
    """What was added, what was there, what contradicts it, and what is left out."""
    words = f"{'Would add' if done.is_dry_run else 'Added'} {counted(done.inserted, 'price')}"
    words += f" from {printable(done.source)}"
    say(f"{words}; {count(done.known)} were known." if done.known else f"{words}.")
    if done.new_providers:
        made_known = counted(len(done.new_providers), "provider")
        say(f"{made_known} made known: {few_of(done.new_providers)}")
    if done.overruled:
        say(f"{counted(done.overruled, 'price')} left out, of what you price yourself.")
    _say_differences(done.from_now, "of them changed in the catalogue, and hold from now on:")
    _say_differences(done.kept, "recorded otherwise, and kept so:")
    _say_differences(done.conflicting, "recorded otherwise, and not added:")
    if done.conflicting and done.source.startswith(GENAI):
        hint("What the catalogue has changed, --from-now adds as of now; own prices stay.")
    elif done.conflicting:
        hint("A recorded price never changes: give the new one the moment from which it holds.")
    _say_some([printable(each.reason) for each in done.rejected], "recorded by somebody else:")
    if done.left_out:
        say(f"Left out {counted(len(done.left_out), 'model')} and parts of models:")
        for reason, names in _by_reason(done.left_out):
            say(f"  {reason}: {few_of(names)}")
        hint("A model that you send text alone is taken with: --text-only MODEL")


def few_of(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    few = names[:NAMES_SHOWN]
    more = f", and {count(len(names) - len(few))} more" if len(names) > len(few) else ""
    return f"{printable(', '.join(few))}{more}"


def price_table(prices: Iterable[ModelPrice]) -> Table:
    """Prices in US dollars for a million tokens."""
    table = plain_table(
        names=("provider", "service tier"),
        numbers=("from tokens", "input", "cache read", "cache write", "output", "reasoning"),
    )
    table.add_column("since")
    table.add_column("source", overflow="fold")
    for price in prices:
        table.add_row(
            Text(printable(price.provider)),
            Text(printable(price.service_tier)),
            count(price.context_tokens_from),
            *_rates(price),
            moment(price.effective_from),
            Text(printable(price.source)),
        )
    return table


def unpriced_table(waiting: Iterable[UnpricedUsage]) -> Table:
    """Calls that wait for a price."""
    table = plain_table(
        names=("provider", "model", "service tier", "reason"),
        numbers=("calls", "input tokens", "output tokens"),
    )
    table.add_column("first", no_wrap=True)
    table.add_column("last", no_wrap=True)
    for each in waiting:
        table.add_row(
            *(
                Text(printable(name))
                for name in (each.provider, each.model, each.service_tier, each.reason)
            ),
            count(each.requests),
            count(each.input_tokens),
            count(each.output_tokens),
            moment(each.first_created_at),
            moment(each.last_created_at),
        )
    return table


def _rates(price: ModelPrice) -> tuple[str, ...]:
    if price.is_withdrawn:
        return ("withdrawn", *[NONE] * 4)
    as_input = "as input" if price.input_usd_per_million is not None else NONE
    as_output = "as output" if price.output_usd_per_million is not None else NONE
    return (
        _rate(price.input_usd_per_million, NONE),
        _rate(price.cache_read_usd_per_million, as_input),
        _rate(price.cache_write_usd_per_million, as_input),
        _rate(price.output_usd_per_million, NONE),
        _rate(price.reasoning_usd_per_million, as_output),
    )


def _rate(usd_per_million: Decimal | None, otherwise: str) -> str:
    return otherwise if usd_per_million is None else str(plain(usd_per_million))


def _say_differences(differences: Sequence[Difference], what: str) -> None:
    _say_some([_difference(each) for each in differences], what)


def _difference(difference: Difference) -> str:
    price, recorded = difference.said, difference.recorded
    if price.is_withdrawn or recorded.is_withdrawn:
        changed = "withdrawn" if price.is_withdrawn else "sold again"
    else:
        changed = ", ".join(
            f"{name.removesuffix('_usd_per_million').replace('_', ' ')}"
            f" {_rate(before, NONE)} -> {_rate(now, NONE)}"
            for name in RATES
            if (before := getattr(recorded, name)) != (now := getattr(price, name))
        )
    whose = f"{price.provider} {price.model}, {price.service_tier}"
    if price.context_tokens_from:
        whose += f" from {count(price.context_tokens_from)} tokens"
    since = f"{moment(recorded.effective_from)}, {recorded.source}"
    return printable(f"{whose}: {changed} (recorded since {since})")


def _say_some(lines: Sequence[str], what: str) -> None:
    if not lines:
        return
    say(f"{count(len(lines))} {what}")
    for line in lines[:SHOWN]:
        say(f"  {line}")
    if len(lines) > SHOWN:
        say(f"  and {count(len(lines) - SHOWN)} more, which --json lists")


def _by_reason(left_out: Iterable[LeftOut]) -> list[tuple[str, list[str]]]:
    """The names that have a reason in common, most names first."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for each in left_out:
        what, _, rule = each.reason.partition(": ")
        # A refusal names a rate and its value first; what models have in common is the rule.
        reason = f"has a rate that is {rule}" if what.startswith(RATES) else what
        part = f" {each.part}" if each.part else ""
        reasons[reason].append(f"{each.provider} {each.model}{part}")
    return sorted(reasons.items(), key=lambda pair: -len(pair[1]))
