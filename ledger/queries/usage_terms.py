"""What the parts of a question's statement share: times, periods, conditions, measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, DateTime, Text, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from ledger.models.billing import TokenUsage
from ledger.models.tenancy import Provider

if TYPE_CHECKING:
    from sqlalchemy import FromClause

    from ledger.queries.usage_shape import SumsShape

_MOMENT: Final = DateTime(timezone=True)
_USAGE: Final = TokenUsage.__table__
_PERIODS: Final = bindparam("periods", type_=ARRAY(_MOMENT))

PERIOD: Final = "period"
COUNTS: Final = ("requests", "unpriced_requests", "input_tokens", "output_tokens")
AMOUNTS: Final = ("vendor_cost", "charge_usd", "credits_deducted")
MEASURES: Final = (*COUNTS, *AMOUNTS)


def pieces(name: str) -> Any:  # noqa: ANN401 - SQLAlchemy's table values
    """The times that the cover binds under this name, as a relation: begin and until."""
    bounds = (bindparam(f"{name}_{end}", type_=ARRAY(_MOMENT)) for end in ("from", "to"))
    return (
        func.unnest(*bounds)
        .table_valued(column("begin", _MOMENT), column("until", _MOMENT))
        .render_derived(name=name)
    )


def period(moment: ColumnElement[Any]) -> ColumnElement[int]:
    """The place of the period that the moment is in, from 1."""
    return func.width_bucket(moment, _PERIODS).label(PERIOD)


def conditions(shape: SumsShape, table: FromClause) -> list[ColumnElement[bool]]:
    """The columns that are held to one value each; the provider is named."""
    return [table.c[name] == value_of(name) for name in shape.filters]


def value_of(name: str) -> ColumnElement[Any]:
    """What a column is held to."""
    if name == "provider_id":
        named = Provider.name == bindparam("provider", type_=Text())
        return select(Provider.id).where(named).scalar_subquery()
    return bindparam(name, type_=_USAGE.c[name].type)


def unlabelled(groups: list[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """As GROUP BY has them."""
    return [getattr(group, "element", group) for group in groups]
