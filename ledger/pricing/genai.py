"""Prices from genai-prices: what its catalogue says that a price of ours can say exactly."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.errors import LedgerError
from ledger.pricing.genai_models import LeftOut, model_prices

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from genai_prices.types import MatchLogic, Provider

    from ledger.records.prices import ModelPrice


class CatalogueUnavailable(LedgerError):
    """The price catalogue is not installed: pip install 'llm-ledger[prices]'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenaiCatalogue:
    """What could be said of a catalogue, and what could not."""

    prices: tuple[ModelPrice, ...]
    left_out: tuple[LeftOut, ...]


def from_genai_prices(
    *, names: Iterable[tuple[str, str]] = (), text_only: Container[str] = ()
) -> GenaiCatalogue:
    """The prices of genai-prices that are in force: the installed ones, or those it updated.

    A model has a price under each of its names that the catalogue lists. Others it knows by a
    pattern, as Anthropic's with a date: ``names``, pairs of provider and model that were met,
    get the price of the model whose pattern they match. Never another provider's, which
    genai-prices falls back to.

    What is left out, and told: models whose price depends on the time of day, or counts other
    things than tokens of text (audio and images, requests, pages, hours); service tiers that are
    said by more than one word; rates of more than 12 decimals. Models of ``text_only``, by the
    catalogue's name, are taken at the rates of text: say so only of what is sent text alone.
    Charges for searches are told as well; the model's tokens have their price all the same.

    A price without a date holds from 1970-01-01 UTC. Anthropic's `cache_write` is of five
    minutes, and `standard+cache_1h` the tier in which all writes are kept for an hour.

    Raises CatalogueUnavailable where genai-prices is not installed.
    """
    try:
        import genai_prices  # noqa: PLC0415 - an extra
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415
    except ImportError:
        raise CatalogueUnavailable from None
    snapshot = get_snapshot()
    source = f"genai-prices {genai_prices.__version__}"
    if snapshot.from_auto_update:
        source += f" updated {snapshot.timestamp:%Y-%m-%d}"
    met: defaultdict[str, set[str]] = defaultdict(set)
    for provider_id, name in names:
        met[provider_id].add(name)
    prices: list[ModelPrice] = []
    left_out: list[LeftOut] = []
    for provider in snapshot.providers:
        named = _named(provider, met[provider.id])
        for model in provider.models:
            said = model_prices(
                provider.id, model, named[model.id], source, text_only=model.id in text_only
            )
            prices += said.prices
            left_out += said.left_out
    return GenaiCatalogue(prices=tuple(prices), left_out=tuple(left_out))


def _named(provider: Provider, met: Iterable[str]) -> defaultdict[str, list[str]]:
    """The names by which the catalogue finds each model, by its id.

    Not every id is one: `regional.` before some of AWS's stands for a region.
    """
    names: defaultdict[str, list[str]] = defaultdict(list)
    listed = (name for model in provider.models for name in (model.id, *_equals(model.match)))
    for name in dict.fromkeys([*listed, *sorted(met)]):
        if (found := provider.find_model(name)) is not None:
            names[found.id].append(name)
    return names


def _equals(match: MatchLogic) -> Iterator[str]:
    if (name := getattr(match, "equals", None)) is not None:
        yield name
    for clause in getattr(match, "or_", ()):
        yield from _equals(clause)
