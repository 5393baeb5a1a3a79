"""The plan that reads the price list, for roles that write, and may read nothing else."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from ledger.models.prices import ModelPrice as StoredPrice
from ledger.models.tenancy import Provider
from ledger.pricing.price import PriceList
from ledger.records.prices import ModelPrice
from ledger.write.commands import atomically, execute

if TYPE_CHECKING:
    from ledger.write.commands import Plan, Steps

_COUNT: Final = select(func.count()).select_from(StoredPrice)
_ALL: Final = select(
    Provider.name.label("provider"),
    StoredPrice.model_id.label("model"),
    *(
        getattr(StoredPrice, field.name)
        for field in fields(ModelPrice)
        if field.name not in {"provider", "model"}
    ),
).join_from(StoredPrice, Provider, Provider.id == StoredPrice.provider_id)


def price_list(known: PriceList | None) -> Plan[PriceList]:
    """Every price that was ever said: ``known``, all committed then, where none was added since."""
    return (yield from atomically(_steps(known)))


def _steps(known: PriceList | None) -> Steps[PriceList]:
    # Committed prices are added and never changed: as many are the same.
    if known is not None and len(known) == (yield from execute(_COUNT)).rows[0][0]:
        return known
    rows = (yield from execute(_ALL)).rows
    return PriceList(ModelPrice(**row._asdict()) for row in rows)
