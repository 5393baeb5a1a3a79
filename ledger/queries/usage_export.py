"""The statement whose rows are a CSV export of usage: each value as the text that it becomes.

Every column of `token_usage_ledger` in its order, and `provider`, the name, after its id.
"""

# ruff: noqa: PLR0913 - an export has as many filters as a question

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Label,
    Text,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from ledger.models.base import SCHEMA
from ledger.models.billing import TokenUsage
from ledger.models.tenancy import Provider
from ledger.queries.asked import Asked
from ledger.queries.query import AnySelect
from ledger.queries.usage_terms import value_of
from ledger.records.usage import Status
from ledger.window import Window, require_window

_USAGE: Final = TokenUsage.metadata.tables[f"{SCHEMA}.{TokenUsage.__tablename__}"]
_PROVIDERS: Final = Provider.__table__
_ONE_OF_A_FEW: Final = frozenset({"kind", "status", "usage_source", "pricing_status"})
"""Text columns whose words a CHECK lists."""

FORMULA_STARTS: Final = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""What a cell begins with that a spreadsheet may run: OWASP's list ("CSV Injection"), with the
full-width forms that are read as formulas in East Asian settings."""
_STARTS: Final[ColumnElement[Any]] = literal_column(
    f"'{{{','.join(str(ord(each)) for each in FORMULA_STARTS)}}}'::int[]"
)
_APOSTROPHE: Final = literal_column("''''", Text)
_UTC: Final = literal_column("'Z'", Text)
_WHOLE: Final[ColumnElement[Any]] = literal_column("'{}'")
_NO_OFFSET: Final[ColumnElement[Any]] = literal_column("INTERVAL '0'")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

SUCCESS: Final = "idx_token_usage_success"
UNSUCCESSFUL: Final = "idx_token_usage_unsuccessful"
CORRECTIONS: Final = "idx_token_usage_corrections"
PARTS: Final = (SUCCESS, UNSUCCESSFUL, CORRECTIONS)
"""Partial indexes by created_at; each row is in one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageExport:
    """Which rows are exported: a statement, and the numbers and texts that it binds."""

    statement: AnySelect
    parameters: Mapping[str, str | int]


def usage_export(
    window: Window,
    *,
    provider: str | None = None,
    model: str | None = None,
    user_id: UUID | str | None = None,
    tier: str | None = None,
    status: Status | None = None,
    project_id: UUID | str | None = None,
) -> UsageExport:
    """The rows of a window that match, oldest first. Raises InvalidArgument."""
    require_window(window)
    asked = Asked.of(provider, model, user_id, tier, project_id, status)
    return UsageExport(
        statement=_statement(_parts(status), asked.columns),
        parameters={
            "start": (window.start - _EPOCH) // _MILLISECOND,
            "end": (window.end - _EPOCH) // _MILLISECOND,
            # As text, since not every driver can write a UUID.
            **{name: str(value) for name, value in asked.parameters.items()},
        },
    )


def _parts(status: Status | None) -> tuple[str, ...]:
    """The indexes in which there may be rows of that status."""
    match status:
        case None:
            return PARTS
        case "success":
            return (SUCCESS, CORRECTIONS)
        case _:
            return (UNSUCCESSFUL, CORRECTIONS)


@lru_cache(maxsize=64)
def _statement(parts: tuple[str, ...], filters: tuple[str, ...]) -> AnySelect:
    """Merged from the parts in which indexes have them in order, for there is no index of all.

    Nothing is sorted but the rows of one millisecond, so that the server needs no more memory
    for a million rows than for a hundred, and begins to send at once: 1.05 times what all rows
    take as they lie, where a sort takes 2.2. Each part says its own order, or it is not read in
    any.
    """
    indexes = {str(index.name): index for index in _USAGE.indexes}
    selected = [
        select(*_USAGE.columns)
        .where(
            _USAGE.c.created_at >= _moment("start"),
            _USAGE.c.created_at < _moment("end"),
            *(_USAGE.c[each] == value_of(each) for each in filters),
            # As the index says it, or the planner cannot tell that its rows will do.
            indexes[name].dialect_options["postgresql"]["where"],
        )
        .order_by(_USAGE.c.created_at, _USAGE.c.id)
        for name in parts
    ]
    usage = union_all(*selected).subquery("usage")
    return select(
        *(cell for column in _USAGE.columns for cell in _cells(column, usage.c[column.name]))
    ).order_by(usage.c.created_at, usage.c.id)


def _moment(name: str) -> ColumnElement[datetime]:
    """A moment from milliseconds since 1970.

    asyncpg would write a timestamp as the session's DateStyle has it, by an abbreviated time
    zone that may be read as another's: IST is India's and Israel's.
    """
    milliseconds = bindparam(name, type_=BigInteger())
    return func.to_timestamp(milliseconds.op("/")(literal_column("1000.0")))


def _cells(column: Column[Any], value: ColumnElement[Any]) -> Iterator[Label[Any]]:
    if isinstance(column.type, Text) and column.name not in _ONE_OF_A_FEW:
        yield _guarded(value).label(column.name)
    elif isinstance(column.type, TIMESTAMP):
        yield _iso(value).label(column.name)
    else:
        # Numbers stay numbers, also negative ones. JSON begins with none of those characters
        # but the minus of a number.
        yield value.label(column.name)
    if column.name == "provider_id":
        yield _provider(value).label("provider")


def _guarded(text: ColumnElement[str]) -> ColumnElement[str]:
    """The text behind an apostrophe, where a spreadsheet would take it for a formula.

    By its code point: 0.01 us, where left() takes 0.12 and a pattern 0.1.
    """
    return case((func.ascii(text) == any_(_STARTS), _APOSTROPHE.concat(text)), else_=text)


def _iso(moment: ColumnElement[datetime]) -> ColumnElement[str]:
    """ISO 8601 in UTC: JSON has times like that whatever the session's DateStyle and zone are.

    0.14 us where to_char() takes 0.24. Nor by the name of UTC, which is looked up each time.
    """
    return func.to_jsonb(func.timezone(_NO_OFFSET, moment)).op("#>>")(_WHOLE).concat(_UTC)


def _provider(identity: ColumnElement[UUID]) -> ColumnElement[str]:
    """The provider's name, from a map that is made once: a join would lose the order."""
    named = func.jsonb_object_agg(_PROVIDERS.c.id, _guarded(_PROVIDERS.c.name))
    names = select(named).scalar_subquery()
    return names.op("->>")(cast(identity, Text))
