"""What can be asked of the telemetry ledger.

Each question is a function from what the caller asks, and a context that the repository adds,
to one statement and its result. All take:

- ``user_id``: whose requests, a UUID or its text; ``ALL_USERS`` for those of everybody;
- ``interval``: "15M", "1H", "1D" or "7D" before ``at`` (by default the database's clock), not
  aligned to anything, or any ``Window``;
- ``provider`` and ``model``: only requests to these.

Counts, tokens and money are exact for any window.
"""

# ruff: noqa: PLR0913 - a question has as many arguments as it has; all but two are keywords

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from ledger.queries import buckets, reading
from ledger.queries.asking import listing, percentile_error, query
from ledger.queries.query import Context, Query
from ledger.queries.reading import COST, ERRORS, LATENCY, OVERVIEW, SERIES
from ledger.queries.route import route
from ledger.queries.scope import AllUsers, asked_window, scope
from ledger.records.telemetry import (
    Answer,
    DailyModelCost,
    ModelErrorRate,
    ModelLatency,
    Overview,
    TimeBucket,
)
from ledger.window import Interval, Window

Result = TypeVar("Result")


def overview(
    context: Context,
    user_id: UUID | str | AllUsers,
    interval: Interval | str | Window,
    *,
    at: datetime | None = None,
    provider: str | None = None,
    model: str | None = None,
) -> Query[Overview]:
    """A window's requests, errors, latency, tokens and cost in one line.

    Percentiles are of raw rows in windows of up to two hours, else from hourly sketches, and
    then within ``percentile_error``. Edges older than the raw rows fall to whole hours, which
    ``is_exact`` and ``window`` say.

    Raises InvalidArgument, SchemaNotReady, DatabaseUnavailable.
    """
    asked = scope(user_id, provider=provider, model=model)
    way = route(asked_window(interval, at=at, now=context.horizon.now), context.horizon)
    error = percentile_error(OVERVIEW, context, way)
    return query(
        OVERVIEW,
        context,
        asked,
        way,
        read=lambda rows: Overview(
            **reading.totals(rows),
            window=way.window,
            percentile_error=error,
            is_exact=way.is_exact,
        ),
    )


def time_series(
    context: Context,
    user_id: UUID | str | AllUsers,
    interval: Interval | str | Window,
    *,
    at: datetime | None = None,
    provider: str | None = None,
    model: str | None = None,
    bucket: timedelta | None = None,
) -> Query[Answer[TimeBucket]]:
    """A window in steps of ``bucket``, oldest first, those without requests included.

    Steps are multiples of their width since 1970 in UTC; the first and the last hold what of
    them lies in the window. By default a minute for "15M" and "1H", an hour for "1D", six for
    "7D", and likewise for windows of such lengths. Steps that are not of whole hours are read
    from raw rows.

    Raises InvalidArgument; of those RawRowsGone where such rows may be gone, TooManyBuckets.
    """
    asked = scope(user_id, provider=provider, model=model)
    window = asked_window(interval, at=at, now=context.horizon.now)
    width = buckets.bucket_width(bucket, interval, window, context.horizon)
    way = buckets.series_route(window, width, context.horizon)
    starts = buckets.bucket_starts(way.window, width)

    return listing(
        SERIES,
        context,
        asked,
        way,
        values={"width": width},
        read=lambda rows: reading.time_buckets(rows, starts),
    )


def provider_model_latency(
    context: Context,
    user_id: UUID | str | AllUsers,
    interval: Interval | str | Window,
    *,
    at: datetime | None = None,
    provider: str | None = None,
    model: str | None = None,
) -> Query[Answer[ModelLatency]]:
    """How long each model took, by provider and model, sorted by these.

    Percentiles are as in ``overview``. Raises InvalidArgument.
    """
    asked = scope(user_id, provider=provider, model=model)
    way = route(asked_window(interval, at=at, now=context.horizon.now), context.horizon)
    return listing(LATENCY, context, asked, way, read=reading.model_latencies)


def daily_model_cost(
    context: Context,
    user_id: UUID | str | AllUsers,
    interval: Interval | str | Window,
    *,
    at: datetime | None = None,
    provider: str | None = None,
    model: str | None = None,
    timezone: str = "UTC",
) -> Query[Answer[DailyModelCost]]:
    """What each model cost on each day of a time zone, sorted by day, provider and model.

    Days without requests are left out; the first and the last hold what of them lies in the
    window. ``timezone`` is an IANA name. Hours in which a day ends, as in zones of half
    hours, are read from raw rows; where those are gone such an hour counts to the day of its
    first moment, and ``is_exact`` is False.

    Raises InvalidArgument.
    """
    asked = scope(user_id, provider=provider, model=model)
    window = asked_window(interval, at=at, now=context.horizon.now)
    days = buckets.days(window, timezone)
    way = route(window, context.horizon, cut_hours=days.cut_hours)
    return listing(
        COST,
        context,
        asked,
        way,
        values={"borders": list(days.borders)},
        read=lambda rows: reading.daily_model_costs(rows, days.dates),
    )


def error_rate(
    context: Context,
    user_id: UUID | str | AllUsers,
    interval: Interval | str | Window,
    *,
    at: datetime | None = None,
    provider: str | None = None,
    model: str | None = None,
) -> Query[Answer[ModelErrorRate]]:
    """How often each model failed and was rate limited, sorted by provider and model.

    An error is a status of 400 or more, or a set error type; 429 is a rate limit, and an error
    too. Raises InvalidArgument.
    """
    asked = scope(user_id, provider=provider, model=model)
    way = route(asked_window(interval, at=at, now=context.horizon.now), context.horizon)
    return listing(ERRORS, context, asked, way, read=reading.model_error_rates)
