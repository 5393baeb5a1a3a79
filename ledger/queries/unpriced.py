"""The calls that wait for a price: booked as unpriced, and not priced by a correction since."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import (
    BigInteger,
    Text,
    and_,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    true,
)

from ledger.errors import InvalidArgument
from ledger.models.billing import TokenUsage
from ledger.models.tenancy import Provider
from ledger.queries.columns import END, START
from ledger.queries.opening import SEEN_WIDTH, seen
from ledger.queries.query import AnySelect, Cells, Context, Query
from ledger.queries.scope import asked_window
from ledger.records.billing import UnpricedUsage
from ledger.settings import Storage
from ledger.window import Interval, Window, utc

_USAGE: Final = TokenUsage.__table__
_CORRECTION: Final = TokenUsage.__table__.alias("correction")
_PROVIDERS: Final = Provider.__table__

# Not bound: the planner has to see that these are the conditions of partial indexes.
_UNPRICED: Final = literal_column("'unpriced'", Text)
_IS_UNPRICED: Final = and_(
    _USAGE.c.pricing_status == _UNPRICED, _USAGE.c.kind == literal_column("'usage'", Text)
)
_IS_PRICED_SINCE: Final = exists().where(
    _CORRECTION.c.user_id == _USAGE.c.user_id,
    _CORRECTION.c.adjusts_id == _USAGE.c.id,
    _CORRECTION.c.kind == literal_column("'adjustment'", Text),
    _CORRECTION.c.pricing_status != _UNPRICED,
)
_TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_GROUP: Final = ("model_id", "service_tier", "unpriced_reason")


def unpriced_usage(
    context: Context,
    window: Interval | str | Window | None = None,
    limit: int | None = 100,
    *,
    at: datetime | None = None,
) -> Query[list[UnpricedUsage]]:
    """The booked calls that wait for a price, by what they wait for, most calls first.

    Of all times, unless a ``window`` is given (as for other questions) in which they were made.
    Of the groups, one each for provider, model, service tier and reason, there are at most
    ``limit``; None is no limit. Calls that an adjustment has priced since wait no more.

    Raises InvalidArgument.
    """
    if limit is not None and (type(limit) is not int or limit < 1):
        raise InvalidArgument(f"limit {limit!r} is not a whole number of at least 1")
    parameters: dict[str, object] = {"limit": limit}
    if window is not None:
        found = asked_window(window, at=at, now=context.horizon.now)
        parameters |= {START.key: found.start, END.key: found.end}
    elif at is not None:
        raise InvalidArgument("`at` is where an interval ends; name one, or leave `at` out")
    return Query(
        statement=_statement(window is not None, context.installed.storage),
        parameters=parameters,
        # An empty answer is a row of NULLs, there to say what the statement saw.
        read=lambda rows: [_read(row[SEEN_WIDTH:]) for row in rows if row[SEEN_WIDTH] is not None],
        context=context,
    )


def _read(row: Cells) -> UnpricedUsage:
    provider, model, service_tier, reason, requests, first, last, *tokens = row
    return UnpricedUsage(
        provider=provider,
        model=model,
        service_tier=service_tier,
        reason=reason,
        requests=requests,
        first_created_at=utc(first),
        last_created_at=utc(last),
        # Sums of bigint are numeric, so that none overflows.
        **{name: int(total) for name, total in zip(_TOKENS, tokens, strict=True)},
    )


@lru_cache
def _statement(has_window: bool, storage: Storage) -> AnySelect:  # noqa: FBT001 - a statement each
    conditions = [_IS_UNPRICED, ~_IS_PRICED_SINCE]
    if has_window:
        conditions += [_USAGE.c.created_at >= START, _USAGE.c.created_at < END]
    waiting = (
        select(
            _USAGE.c.provider_id,
            *(_USAGE.c[name] for name in _GROUP),
            func.count().label("requests"),
            func.min(_USAGE.c.created_at).label("first_created_at"),
            func.max(_USAGE.c.created_at).label("last_created_at"),
            *(func.sum(_USAGE.c[name]).label(name) for name in _TOKENS),
        )
        .where(*conditions)
        .group_by(_USAGE.c.provider_id, *(_USAGE.c[name] for name in _GROUP))
        .subquery("waiting")
    )
    columns = [column for column in waiting.c if column.name != "provider_id"]
    answer = (
        select(_PROVIDERS.c.name.label("provider"), *columns)
        .select_from(waiting.join(_PROVIDERS, _PROVIDERS.c.id == waiting.c.provider_id))
        # Names as Python sorts them, and not as the database's collation does.
        .order_by(
            waiting.c.requests.desc(),
            _PROVIDERS.c.name.collate("C"),
            *(waiting.c[name].collate("C") for name in _GROUP),
        )
        .limit(bindparam("limit", type_=BigInteger()))
        .subquery("answer")
    )
    found = seen(storage)
    return (
        select(*found.c, *answer.c)
        .select_from(found.outerjoin(answer, true()))
        .order_by(
            answer.c.requests.desc(),
            answer.c.provider.collate("C"),
            *(answer.c[name].collate("C") for name in _GROUP),
        )
    )
