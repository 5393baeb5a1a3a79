"""Where imported prices are from: the catalogue of genai-prices, or a file of one's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ledger.errors import InvalidArgument
from ledger.pricing.catalogue import from_csv, from_json
from ledger.pricing.genai import from_genai_prices

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ledger.pricing.genai_models import LeftOut
    from ledger.records.prices import ModelPrice
    from ledger.repositories.ledger import Ledger

GENAI: Final = "genai"
_ORIGIN: Final = "genai-prices "
"""How the source of its prices begins; then comes the version."""

_READERS: Final = {".csv": from_csv, ".json": from_json}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is said somewhere of prices."""

    name: str
    origin: str | None
    """How the `source` of each price begins, whatever the version; None of a file's."""
    prices: Sequence[ModelPrice]
    left_out: Sequence[LeftOut] = ()

    def of_providers(self, providers: Sequence[str]) -> Source:
        """Only those of these providers, or all. Raises InvalidArgument for an unknown one."""
        if not providers:
            return self
        known = {price.provider for price in self.prices}
        known |= {each.provider for each in self.left_out}
        for provider in providers:
            if provider not in known:
                raise InvalidArgument(
                    f"{self.name} has no provider {provider!r}; it has {', '.join(sorted(known))}"
                )
        return Source(
            name=self.name,
            origin=self.origin,
            prices=[price for price in self.prices if price.provider in providers],
            left_out=[each for each in self.left_out if each.provider in providers],
        )


def called_otherwise(pairs: Iterable[str]) -> dict[str, str]:
    """The names of a catalogue's providers in the ledger, of pairs such as google=gcp.gemini.

    Raises InvalidArgument for what is no such pair.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        theirs, _, ours = pair.partition("=")
        if not theirs or not ours:
            raise InvalidArgument(f"--as {pair!r} is not two names, such as google=gcp.gemini")
        found[theirs] = ours
    return found


def read(
    named: str,
    ledger: Ledger,
    recorded: Iterable[ModelPrice],
    *,
    text_only: Sequence[str],
    called: Mapping[str, str],
) -> Source:
    """The prices of `genai` or of a file, by how its name ends.

    ``called`` has the catalogue's providers that the ledger knows by another name.
    Names that the catalogue knows by a pattern alone are found where they were met: in calls
    that wait for a price, and in prices of an earlier import, which are to be kept up to date.

    Raises InvalidArgument, InvalidRecord, CatalogueUnavailable.
    """
    if named != GENAI:
        if text_only or called:
            option = "--text-only" if text_only else "--as"
            raise InvalidArgument(f"{option} is about the catalogue, and a file says what it is")
        return _of_file(Path(named))
    waiting = {(each.provider, each.model) for each in ledger.billing.unpriced_usage(limit=None)}
    imported = {
        (price.provider, price.model) for price in recorded if price.source.startswith(_ORIGIN)
    }
    theirs = {ours: name for name, ours in called.items()}
    met = {(theirs.get(provider, provider), model) for provider, model in waiting | imported}
    found = from_genai_prices(names=met, text_only=text_only)
    providers = {price.provider for price in found.prices}
    _require_providers(called, providers | {each.provider for each in found.left_out})
    known = {price.model for price in found.prices} | {each.model for each in found.left_out}
    for model in text_only:
        if model not in known:
            raise InvalidArgument(f"--text-only {model!r}: the catalogue has no model of that name")
    return Source(
        name=next((price.source for price in found.prices), _ORIGIN.strip()),
        origin=_ORIGIN,
        prices=[
            replace(price, provider=called.get(price.provider, price.provider))
            for price in found.prices
        ],
        left_out=[
            replace(each, provider=called.get(each.provider, each.provider))
            for each in found.left_out
        ],
    )


def _require_providers(named: Iterable[str], known: set[str]) -> None:
    for provider in named:
        if provider not in known:
            raise InvalidArgument(
                f"--as {provider!r}: the catalogue has no such provider; it has"
                f" {', '.join(sorted(known))}"
            )


def _of_file(path: Path) -> Source:
    if (reader := _READERS.get(path.suffix.lower())) is None:
        raise InvalidArgument(
            f"--from {str(path)!r} is neither {GENAI} nor a file whose name ends in .csv or .json"
        )
    return Source(name=str(path), origin=None, prices=reader(path))
