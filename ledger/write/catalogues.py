"""What usage is booked by: the users, providers, projects, tiers and prices that it names."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ARRAY, Text, Uuid, any_, bindparam, cast, column, func, select

from ledger.models.prices import ModelPrice as StoredPrice
from ledger.models.tenancy import Project, Provider, Tier, User
from ledger.pricing.price import PriceList
from ledger.records.prices import ModelPrice
from ledger.write.commands import execute

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from decimal import Decimal
    from uuid import UUID

    from sqlalchemy import BindParameter, Cast

    from ledger.records.usage import Usage
    from ledger.write.commands import Steps


def _given(name: str, kind: type[Text | Uuid[Any]]) -> Cast[Any]:
    parameter: BindParameter[Any] = bindparam(name, type_=ARRAY(kind))
    return cast(parameter, ARRAY(kind))


_USERS: Final = select(User.id, User.tier).where(User.id == any_(_given("ids", Uuid)))
_PROVIDERS: Final = select(Provider.id, Provider.name).where(
    Provider.name == any_(_given("names", Text))
)
_PROJECTS: Final = select(Project.id).where(Project.id == any_(_given("ids", Uuid)))
_TIERS: Final = (
    select(Tier.name, Tier.effective_from, Tier.margin_multiplier)
    .where(Tier.name == any_(_given("names", Text)))
    .order_by(Tier.name, Tier.effective_from)
)
_models = (
    func.unnest(_given("providers", Text), _given("models", Text))
    .table_valued(column("provider", Text), column("model", Text))
    .render_derived(name="models")
)
_PRICE_FIELDS: Final = tuple(ModelPrice.__dataclass_fields__)
_PRICES: Final = (
    select(
        *(
            _models.c[name] if name in _models.c else getattr(StoredPrice, name)
            for name in _PRICE_FIELDS
        )
    )
    .select_from(_models)
    .join(Provider, Provider.name == _models.c.provider)
    .join(
        StoredPrice,
        (StoredPrice.provider_id == Provider.id) & (StoredPrice.model_id == _models.c.model),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogues:
    """What some usage is booked by, as the database had it at one moment."""

    tiers_of_users: Mapping[UUID, str]
    providers: Mapping[str, UUID]
    projects: Collection[UUID]
    multipliers: Mapping[str, tuple[list[datetime], list[Decimal]]]
    """By tier: from when on, in order, and what then."""
    prices: PriceList

    def multiplier(self, tier: str, at: datetime) -> Decimal | None:
        """What the tier's users were charged then, for a dollar; None where nobody has said."""
        if (found := self.multipliers.get(tier)) is None:
            return None
        begins, multipliers = found
        begun = bisect_right(begins, at)
        return multipliers[begun - 1] if begun else None


def catalogues(usages: Collection[Usage]) -> Steps[Catalogues]:
    """Ask for all that these usages name."""
    users = {usage.user_id for usage in usages}
    tiers_of_users = dict((yield from _pairs(_USERS, ids=users)))
    providers = yield from _pairs(_PROVIDERS, names={usage.provider for usage in usages})
    projects = {usage.project_id for usage in usages if usage.project_id is not None}
    known = (yield from execute(_PROJECTS, {"ids": list(projects)})).rows if projects else ()
    named = {usage.tier for usage in usages if usage.tier is not None}
    models = {(usage.provider, usage.model) for usage in usages}
    priced = yield from catalogues_of(named | set(tiers_of_users.values()), models)
    return replace(
        priced,
        tiers_of_users=tiers_of_users,
        providers={name: key for key, name in providers},
        projects={row.id for row in known},
    )


def catalogues_of(tiers: Collection[str], models: Collection[tuple[str, str]]) -> Steps[Catalogues]:
    """Ask for these tiers, and for the prices of these models by provider, alone."""
    return Catalogues(
        tiers_of_users={},
        providers={},
        projects=(),
        multipliers=(yield from _multipliers(tiers)),
        prices=PriceList((yield from _prices(models))),
    )


def _pairs(statement: Any, **named: Collection[Any]) -> Steps[list[tuple[Any, Any]]]:  # noqa: ANN401 - a Select
    parameters = {name: list(values) for name, values in named.items()}
    return [tuple(row) for row in (yield from execute(statement, parameters)).rows]


def _multipliers(names: Collection[str]) -> Steps[dict[str, tuple[list[datetime], list[Decimal]]]]:
    found: dict[str, tuple[list[datetime], list[Decimal]]] = {}
    for row in (yield from execute(_TIERS, {"names": list(names)})).rows:
        begins, multipliers = found.setdefault(row.name, ([], []))
        begins.append(row.effective_from)
        multipliers.append(row.margin_multiplier)
    return found


def _prices(models: Collection[tuple[str, str]]) -> Steps[list[ModelPrice]]:
    ordered = list(models)
    parameters = {
        "providers": [provider for provider, _ in ordered],
        "models": [model for _, model in ordered],
    }
    rows = (yield from execute(_PRICES, parameters)).rows
    return [ModelPrice(**dict(zip(_PRICE_FIELDS, row, strict=True))) for row in rows]
