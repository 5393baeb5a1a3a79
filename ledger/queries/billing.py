"""What can be asked of the billing ledger.

Each question is a function from what the caller asks, and a context that the repository adds,
to one statement and its result. All take:

- ``window``: a ``Window``, or "15M", "1H", "1D" or "7D" before ``at`` (by default the database's
  clock), not aligned to anything;
- ``provider``, ``model``, ``user_id``, ``tier``, ``project_id`` and ``status``: only these;
- ``restated``: whether a correction counts at the time of the call that it corrects, or, by
  default, at the time at which it was booked.

All sums are exact for any window, the moment a row is in.
"""

# ruff: noqa: PLR0913 - a question has as many arguments as it has; all but one are keywords

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from ledger.errors import InvalidArgument
from ledger.queries import billing_reading as reading
from ledger.queries import distribution
from ledger.queries.asked import Asked
from ledger.queries.billing_asking import ask, ask_costs, ask_users
from ledger.queries.buckets import require_few_days
from ledger.queries.query import Context, Query
from ledger.queries.scope import asked_window
from ledger.records.billing import (
    CostDistribution,
    GrossMargin,
    MarginDay,
    ModelCost,
    ProviderCost,
    UserCost,
)
from ledger.records.telemetry import Answer
from ledger.records.usage import Status
from ledger.window import Interval, Window, first_moment, utc, zone

TREND_DAYS: Final = 30


def gross_margin(
    context: Context,
    window: Interval | str | Window,
    *,
    at: datetime | None = None,
    provider: str | None = None,
    model: str | None = None,
    user_id: UUID | str | None = None,
    tier: str | None = None,
    project_id: UUID | str | None = None,
    status: Status | None = "success",
    restated: bool = False,
) -> Query[GrossMargin]:
    """Revenue, cost and margin of a window, and of the time as long before it.

    Of the calls that succeeded; ``status=None`` has all, and with them what failed calls cost.

    Raises InvalidArgument, SchemaNotReady, DatabaseUnavailable.
    """
    asked = Asked.of(provider, model, user_id, tier, project_id, status)
    now = asked_window(window, at=at, now=context.horizon.now)
    try:
        before = now.start - now.length
    except OverflowError as error:
        raise InvalidArgument(f"the time before {now.start} reaches beyond the calendar") from error
    return ask(
        context,
        asked,
        periods=[before, now.start, now.end],
        restated=restated,
        read=lambda rows: reading.gross_margin(rows, now),
    )


def provider_costs(
    context: Context,
    window: Interval | str | Window,
    *,
    at: datetime | None = None,
    provider: str | None = None,
    model: str | None = None,
    user_id: UUID | str | None = None,
    tier: str | None = None,
    project_id: UUID | str | None = None,
    status: Status | None = None,
    restated: bool = False,
) -> Query[Answer[ProviderCost]]:
    """What each provider cost, the dearest first; calls that failed are in it.

    Raises InvalidArgument.
    """
    asked = Asked.of(provider, model, user_id, tier, project_id, status)
    found = asked_window(window, at=at, now=context.horizon.now)
    return ask(
        context,
        asked,
        keys=("provider_id",),
        periods=[found.start, found.end],
        restated=restated,
        read=lambda rows: reading.answer(reading.provider_costs(rows), found),
    )


def model_costs(
    context: Context,
    window: Interval | str | Window,
    *,
    at: datetime | None = None,
    provider: str | None = None,
    model: str | None = None,
    user_id: UUID | str | None = None,
    tier: str | None = None,
    project_id: UUID | str | None = None,
    status: Status | None = None,
    restated: bool = False,
) -> Query[Answer[ModelCost]]:
    """What each model of each provider cost, the dearest first; calls that failed are in it.

    Raises InvalidArgument.
    """
    asked = Asked.of(provider, model, user_id, tier, project_id, status)
    found = asked_window(window, at=at, now=context.horizon.now)
    return ask(
        context,
        asked,
        keys=("provider_id", "model_id"),
        periods=[found.start, found.end],
        restated=restated,
        read=lambda rows: reading.answer(reading.model_costs(rows), found),
    )


def user_costs(
    context: Context,
    window: Interval | str | Window,
    limit: int = 20,
    *,
    at: datetime | None = None,
    provider: str | None = None,
    model: str | None = None,
    user_id: UUID | str | None = None,
    tier: str | None = None,
    project_id: UUID | str | None = None,
    status: Status | None = None,
    restated: bool = False,
) -> Query[Answer[UserCost]]:
    """What the ``limit`` dearest users cost, the dearest first; calls that failed are in it.

    Raises InvalidArgument.
    """
    asked = Asked.of(provider, model, user_id, tier, project_id, status)
    found = asked_window(window, at=at, now=context.horizon.now)
    return ask_users(
        context,
        asked,
        found,
        limit=limit,
        restated=restated,
        read=lambda rows: reading.answer(reading.user_costs(rows), found),
    )


def margin_trend(
    context: Context,
    window: Interval | str | Window | None = None,
    *,
    at: datetime | None = None,
    timezone: str = "UTC",
    provider: str | None = None,
    model: str | None = None,
    user_id: UUID | str | None = None,
    tier: str | None = None,
    project_id: UUID | str | None = None,
    status: Status | None = "success",
    restated: bool = False,
) -> Query[Answer[MarginDay]]:
    """The margin of each day of a time zone, oldest first, days without calls included.

    By default of the day that ``at`` is in and the 29 days before; of another ``window`` the
    first and the last day hold what of them lies in it. ``timezone`` is an IANA name.

    Raises InvalidArgument.
    """
    asked = Asked.of(provider, model, user_id, tier, project_id, status)
    now, named = context.horizon.now, zone(timezone)
    try:
        if window is None:
            found = _last_days(now if at is None else utc(at, "at"), named)
        else:
            found = asked_window(window, at=at, now=now)
        require_few_days(found)
        begins = [found.start, *found.midnights(named)]
    except OverflowError as error:
        raise InvalidArgument(f"the days of {timezone} reach beyond the calendar") from error
    dates = [begin.astimezone(named).date() for begin in begins if found.length]
    return ask(
        context,
        asked,
        periods=[*begins, found.end],
        restated=restated,
        read=lambda rows: reading.answer(reading.margin_days(rows, dates), found),
    )


def cost_distribution(
    context: Context,
    window: Interval | str | Window,
    *,
    at: datetime | None = None,
    provider: str | None = None,
    model: str | None = None,
    user_id: UUID | str | None = None,
    tier: str | None = None,
    project_id: UUID | str | None = None,
    status: Status | None = None,
) -> Query[CostDistribution]:
    """How what single calls cost is spread; calls that failed are in it, corrections are not.

    Percentiles are of bins of cost, and within ``percentile_error`` of the cost of the call at
    their rank; counts and the average are exact.

    Raises InvalidArgument.
    """
    asked = Asked.of(provider, model, user_id, tier, project_id, status)
    found = asked_window(window, at=at, now=context.horizon.now)
    return ask_costs(
        context, asked, found, read=lambda rows: distribution.cost_distribution(rows, found)
    )


def _last_days(now: datetime, named: ZoneInfo) -> Window:
    today = now.astimezone(named).date()
    return Window(
        start=first_moment(today - timedelta(days=TREND_DAYS - 1), named),
        end=first_moment(today + timedelta(days=1), named),
    )
