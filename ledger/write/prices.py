"""The plan that adds prices, which never change once they are said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Column, Text, select
from sqlalchemy.dialects.postgresql import insert

from ledger.errors import InvalidArgument, LedgerError, UnknownReference
from ledger.models.base import SCHEMA
from ledger.models.prices import ModelPrice as StoredPrice
from ledger.models.tenancy import Provider
from ledger.records.prices import ModelPrice
from ledger.records.refusal import refusal
from ledger.records.report import WriteReport, rejected
from ledger.write.commands import atomically, execute
from ledger.write.conflicts import conflicts
from ledger.write.recordset import POSITION, bound, comparison, given

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ledger.write.commands import Plan, Steps

_PRICES: Final = StoredPrice.metadata.tables[f"{SCHEMA}.{StoredPrice.__tablename__}"]
_KEY: Final = (
    "provider_id",
    "model_id",
    "service_tier",
    "context_tokens_from",
    "effective_from",
)
_SAID: Final = (
    "is_withdrawn",
    "input_usd_per_million",
    "output_usd_per_million",
    "cache_read_usd_per_million",
    "cache_write_usd_per_million",
    "reasoning_usd_per_million",
)
"""What two prices of one key must agree in; not `source`, as two may say the same."""
_GIVEN_KEY: Final = _KEY[1:]

_given: Final = given(
    [
        Column("provider", Text),
        *(_PRICES.c[name] for name in (*_GIVEN_KEY, *_SAID, "source")),
    ]
)
_named: Final = (
    select(Provider.id.label("provider_id"), *_given.c)
    .select_from(_given)
    .join(Provider, Provider.name == _given.c.provider, isouter=True)
    .cte("named")
)

_known: Final = select(*_named.c).where(_named.c.provider_id.is_not(None)).cte("known")

_UNKNOWN: Final = select(_named.c[POSITION]).where(_named.c.provider_id.is_(None))
_INSERT: Final = (
    insert(_PRICES)
    .from_select(
        [*_KEY, *_SAID, "source"],
        select(*(_known.c[name] for name in (*_KEY, *_SAID, "source"))).order_by(
            *(_known.c[name] for name in _KEY), _known.c[POSITION]
        ),
    )
    .on_conflict_do_nothing()
    .execution_options(preserve_rowcount=True)
)
_COMPARE: Final = comparison(
    _known,
    _PRICES,
    _KEY,
    {name: _PRICES.c[name].is_distinct_from(_known.c[name]) for name in _SAID},
)


def add_prices(prices: Iterable[ModelPrice]) -> Plan[WriteReport]:
    """Add prices, all in one transaction, but for those that are rejected.

    A price that is known already is counted as a duplicate. Rejected are a second, different
    price of the same moment, and prices of providers that the ledger does not know. Usage that
    was booked before keeps the price it was booked at.

    Raises InvalidRecord for what is no ModelPrice; then none is added.
    """
    if isinstance(prices, ModelPrice):
        raise InvalidArgument("one ModelPrice is no iterable of them; put it into a list")
    said = list(prices)
    for price in said:
        if not isinstance(price, ModelPrice):
            raise refusal("price", price, "is no ModelPrice")
    return (yield from atomically(_added(said)))


def _added(prices: Sequence[ModelPrice]) -> Steps[WriteReport]:
    parameters = bound([_row(price, position) for position, price in enumerate(prices)])
    faults: dict[int, LedgerError] = {}
    for row in (yield from execute(_UNKNOWN, parameters)).rows:
        faults[row.position] = UnknownReference(
            f"provider {prices[row.position].provider!r}: the ledger does not know it; call"
            " ledger.tenancy.upsert_provider first"
        )
    inserted = (yield from execute(_INSERT, parameters)).count
    if inserted + len(faults) < len(prices):
        compared = yield from conflicts(
            _COMPARE,
            lambda position: _called(prices[position]),
            parameters,
            remedy="let it hold from another moment on",
        )
        faults = compared | faults
    refused = [rejected(position, faults[position]) for position in sorted(faults)]
    return WriteReport(
        inserted=inserted,
        duplicates=len(prices) - inserted - len(refused),
        rejected=tuple(refused),
        rejected_count=len(refused),
    )


def _row(price: ModelPrice, position: int) -> dict[str, Any]:
    said = {name: getattr(price, name) for name in (*_GIVEN_KEY[1:], *_SAID, "source")}
    return {"provider": price.provider, "model_id": price.model, POSITION: position, **said}


def _called(price: ModelPrice) -> str:
    return (
        f"the price of {price.provider} {price.model}, service tier {price.service_tier}, from"
        f" {price.context_tokens_from} input tokens and {price.effective_from.isoformat()} on,"
    )
