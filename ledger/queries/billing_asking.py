"""A question to the billing ledger as a Query: which rows, which statement, what it binds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Text, select, true

from ledger.errors import InvalidArgument
from ledger.models.tenancy import Provider
from ledger.queries.asked import Asked
from ledger.queries.cover import Cover, cover
from ledger.queries.opening import SEEN_WIDTH, seen
from ledger.queries.query import AnySelect, Cells, Context, Query
from ledger.queries.usage_costs import BIN, costs
from ledger.queries.usage_shape import SumsShape, levels_of, levels_of_costs, rows_of
from ledger.queries.usage_sums import sums
from ledger.queries.usage_terms import MEASURES, PERIOD
from ledger.queries.usage_users import costs_of_users
from ledger.records.tokens import GREATEST_COUNT
from ledger.settings import Storage
from ledger.window import Window

Result = TypeVar("Result")

_PROVIDERS: Final = Provider.__table__


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
    shape, covered = _covered(asked, keys, periods, restated=restated)
    first_measure = SEEN_WIDTH + 1 + len(keys)
    return Query(
        statement=_statement(shape, context.installed.storage),
        parameters={**asked.parameters, **covered.parameters},
        # An empty answer is a row of NULLs, there to say what the statement saw. A row of zeros
        # is left by corrections that count elsewhere.
        read=lambda rows: read([row[SEEN_WIDTH:] for row in rows if any(row[first_measure:])]),
        context=context,
    )


def _covered(
    asked: Asked, keys: tuple[str, ...], periods: Sequence[datetime], *, restated: bool
) -> tuple[SumsShape, Cover]:
    """Which sums answer, and what of the time is left for the rows."""
    levels = levels_of({*asked.columns, *keys})
    covered = cover(periods, levels.values())
    shape = SumsShape(
        keys=keys,
        filters=asked.columns,
        levels=tuple(
            name if pieces else None for name, pieces in zip(levels, covered.buckets, strict=True)
        ),
        rows=rows_of(asked.parameters, keys) if covered.rest else (),
        is_restated=restated,
    )
    return shape, covered


def ask_costs(
    context: Context,
    asked: Asked,
    window: Window,
    *,
    read: Callable[[Sequence[Cells]], Result],
) -> Query[Result]:
    """The query of calls by bins of cost; a row is a bin, its requests and a cost.

    What all of them cost is the sum of all rows; the bin NULL has no requests.
    """
    levels = levels_of_costs(asked.columns)
    covered = cover([window.start, window.end], levels.values())
    shape = SumsShape(
        keys=(),
        filters=asked.columns,
        levels=tuple(levels) if covered.whole else (),
        rows=rows_of(asked.parameters) if covered.rest else (),
        is_restated=False,
    )
    return Query(
        statement=_statement_of_costs(shape, context.installed.storage),
        parameters={**asked.parameters, **covered.parameters},
        read=lambda rows: read([row[SEEN_WIDTH:] for row in rows]),
        context=context,
    )


def ask_users(  # noqa: PLR0913 - what makes a query up
    context: Context,
    asked: Asked,
    window: Window,
    *,
    limit: int,
    restated: bool,
    read: Callable[[Sequence[Cells]], Result],
) -> Query[Result]:
    """The query of the dearest users; a row is the id, the external id, then MEASURES."""
    _require_count(limit)
    shape, covered = _covered(asked, ("user_id",), [window.start, window.end], restated=restated)
    return Query(
        statement=_statement_of_users(shape, context.installed.storage),
        parameters={**asked.parameters, **covered.parameters, "limit": limit},
        read=lambda rows: read([row[SEEN_WIDTH:] for row in rows if row[SEEN_WIDTH] is not None]),
        context=context,
    )


def _require_count(limit: object) -> None:
    if type(limit) is not int or not 1 <= limit <= GREATEST_COUNT:
        raise InvalidArgument(f"limit {limit!r} is not a whole number of at least 1")


@lru_cache(maxsize=256)
def _statement_of_users(shape: SumsShape, storage: Storage) -> AnySelect:
    found, answer = seen(storage), costs_of_users(shape).subquery("answer")
    return (
        select(*found.c, *answer.c)
        .select_from(found.outerjoin(answer, true()))
        .order_by(answer.c.vendor_cost.desc(), answer.c.user_id)
    )


@lru_cache(maxsize=256)
def _statement_of_costs(shape: SumsShape, storage: Storage) -> AnySelect:
    found, answer = seen(storage), costs(shape).subquery("answer")
    return (
        select(*found.c, *answer.c)
        .select_from(found.outerjoin(answer, true()))
        .order_by(answer.c[BIN])
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
