"""What a call costs by the prices that are stored, and the prices themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Text, bindparam, select, true

from ledger.errors import InvalidArgument
from ledger.models.base import SCHEMA
from ledger.models.prices import ModelPrice as StoredPrice
from ledger.models.tenancy import Provider
from ledger.pricing.price import PriceList
from ledger.queries.opening import SEEN_WIDTH, seen
from ledger.queries.query import AnySelect, Cells, Context, Query
from ledger.queries.scope import named
from ledger.records.prices import ModelPrice, Priced, Unpriced
from ledger.records.refusal import as_dict
from ledger.records.usage import Usage
from ledger.settings import Storage

_PRICES: Final = StoredPrice.metadata.tables[f"{SCHEMA}.{StoredPrice.__tablename__}"]
_PROVIDERS: Final = Provider.__table__
_FIELDS: Final = tuple(ModelPrice.__dataclass_fields__)
_COLUMNS: Final = {
    **{name: _PRICES.c[name] for name in _FIELDS if name in _PRICES.c},
    "provider": _PROVIDERS.c.name,
    "model": _PRICES.c.model_id,
}
_ORDER: Final = ("provider", "model", "service_tier", "context_tokens_from", "effective_from")


def price(
    context: Context, usage: Usage | Mapping[str, Any], at: datetime | None = None
) -> Query[Priced | Unpriced]:
    """What a call costs by the stored prices, token kind by token kind, or why nobody can say.

    A mapping needs no more than `provider`, `model` and the counts of tokens, so that a call
    can be priced that was never made. The price is the one that holds ``at`` a moment; by
    default when the call was made, and without a `created_at` now, by the database's clock. A
    `vendor_cost` that the usage states has no part in it.

    Nothing is booked. Raises InvalidRecord for a usage that breaks a rule, InvalidArgument for
    an ``at`` that is naive or no datetime.
    """
    if at is not None and not isinstance(at, datetime):
        raise InvalidArgument(f"at {at!r} is not a datetime")
    call = _call(usage, context.horizon.now)

    def read(rows: list[ModelPrice]) -> Priced | Unpriced:
        return PriceList(rows).price(
            call.tokens,
            provider=call.provider,
            model=call.model,
            service_tier=call.service_tier,
            at=call.created_at if at is None else at,
        )

    found = model_prices(context, call.model, provider=call.provider)
    return Query(
        statement=found.statement,
        parameters=found.parameters,
        read=lambda rows: read(found.read(rows)),
        context=context,
    )


def model_prices(
    context: Context, model: str | None = None, *, provider: str | None = None
) -> Query[list[ModelPrice]]:
    """Every price that was ever said of a model, or of all, in order of provider and model.

    Of one service tier and context size the oldest comes first, and each holds until the next
    begins.

    Raises InvalidArgument.
    """
    given = {"model": named(model, "model"), "provider": named(provider, "provider")}
    parameters = {name: value for name, value in given.items() if value is not None}
    return Query(
        statement=_statement(tuple(parameters), context.installed.storage),
        parameters=parameters,
        # An empty answer is a row of NULLs, there to say what the statement saw.
        read=lambda rows: [_price(row) for row in rows if row[SEEN_WIDTH] is not None],
        context=context,
    )


def _call(usage: Usage | Mapping[str, Any], now: datetime) -> Usage:
    if isinstance(usage, Usage):
        return usage
    # By the rules of a whole usage, with what says whose it is made up: no price depends on it.
    made_up = {"user_id": UUID(int=0), "request_id": "quote", "created_at": now}
    return Usage.of(made_up | as_dict(usage))


def _price(row: Cells) -> ModelPrice:
    return ModelPrice(**dict(zip(_FIELDS, row[SEEN_WIDTH:], strict=True)))


@lru_cache
def _statement(filters: tuple[str, ...], storage: Storage) -> AnySelect:
    answer = (
        select(*(_COLUMNS[name].label(name) for name in _FIELDS))
        .select_from(_PRICES.join(_PROVIDERS, _PROVIDERS.c.id == _PRICES.c.provider_id))
        .where(*(_COLUMNS[name] == bindparam(name, type_=Text()) for name in filters))
        .subquery("answer")
    )
    found = seen(storage)
    ordered = [answer.c[name] for name in _ORDER]
    return (
        select(*found.c, *answer.c)
        .select_from(found.outerjoin(answer, true()))
        # Names as Python sorts them, and not as the database's collation does.
        .order_by(*(each.collate("C") if isinstance(each.type, Text) else each for each in ordered))
    )
