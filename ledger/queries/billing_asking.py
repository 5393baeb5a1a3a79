"""A question to the billing ledger as a Query: which rows, which statement, what it binds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar, get_args
from uuid import UUID

from sqlalchemy import ColumnElement, Text, select, true

from ledger.errors import InvalidArgument
from ledger.models.tenancy import Provider
from ledger.queries.cover import cover
from ledger.queries.opening import SEEN_WIDTH, seen
from ledger.queries.query import AnySelect, Cells, Context, Query
from ledger.queries.scope import named, uuid_of
from ledger.queries.usage_sums import MEASURES, PERIOD, SumsShape, levels_of, sums
from ledger.records.usage import Status
from ledger.settings import Storage

Result = TypeVar("Result")

_PROVIDERS: Final = Provider.__table__
_STATUSES: Final = get_args(Status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which rows are asked about, whatever their time."""

    provider: str | None
    model_id: str | None
    user_id: UUID | None
    tier: str | None
    project_id: UUID | None
    status: Status | None

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 - each is an argument of every question
        cls,
        provider: str | None,
        model: str | None,
        user_id: UUID | str | None,
        tier: str | None,
        project_id: UUID | str | None,
        status: Status | None,
    ) -> Asked:
        """The same of a caller's arguments. Raises InvalidArgument, naming the wrong one."""
        if status is not None and status not in _STATUSES:
            raise InvalidArgument(f"status {status!r} is none of {', '.join(_STATUSES)}")
        return cls(
            provider=named(provider, "provider"),
            model_id=named(model, "model"),
            user_id=None if user_id is None else uuid_of(user_id, "user_id"),
            tier=named(tier, "tier"),
            project_id=None if project_id is None else uuid_of(project_id, "project_id"),
            status=status,
        )

    @property
    def parameters(self) -> dict[str, object]:
        """What the restrictions bind."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are held to a value each."""
        return tuple("provider_id" if name == "provider" else name for name in self.parameters)


def ask(  # noqa: PLR0913 - what makes a query up
    context: Context,
    asked: Asked,
    *,
    keys: tuple[str, ...] = (),
    periods: Sequence[datetime],
    restated: bool,
    read: Callable[[Sequence[Cells]], Result],
) -> Query[Result]:
    """The query of sums by period and ``keys``, whose result ``read`` makes of the rows.

    A row is the period's place, from 1, then the keys, a provider by its name, then MEASURES.
    """
    levels = levels_of({*asked.columns, *keys})
    covered = cover(periods, levels.values())
    shape = SumsShape(
        keys=keys,
        filters=asked.columns,
        levels=tuple(
            name if pieces else None for name, pieces in zip(levels, covered.buckets, strict=True)
        ),
        has_rest=bool(covered.rest),
        is_restated=restated,
    )
    first_measure = SEEN_WIDTH + 1 + len(keys)
    return Query(
        statement=_statement(shape, context.installed.storage),
        parameters={**asked.parameters, **covered.parameters},
        # An empty answer is a row of NULLs, there to say what the statement saw. A row of zeros
        # is left by corrections that count elsewhere.
        read=lambda rows: read([row[SEEN_WIDTH:] for row in rows if any(row[first_measure:])]),
        context=context,
    )


@lru_cache(maxsize=256)
def _statement(shape: SumsShape, storage: Storage) -> AnySelect:
    found = seen(storage)
    answer = sums(shape).subquery("answer")
    columns: list[ColumnElement[Any]] = [answer.c[PERIOD]]
    matched = found.outerjoin(answer, true())
    for name in shape.keys:
        if name == "provider_id":
            matched = matched.outerjoin(_PROVIDERS, _PROVIDERS.c.id == answer.c.provider_id)
            columns.append(_PROVIDERS.c.name)
        else:
            columns.append(answer.c[name])
    return (
        select(*found.c, *columns, *(answer.c[name] for name in MEASURES))
        .select_from(matched)
        .order_by(
            # As Python sorts, and not as the database's collation does.
            *(each.collate("C") if isinstance(each.type, Text) else each for each in columns)
        )
    )
