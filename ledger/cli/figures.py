"""Figures as a person reads them: units, thousands, and a dash where there is none."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from ledger.queries.scope import ALL_USERS

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal
    from uuid import UUID

    from ledger.queries.scope import AllUsers
    from ledger.window import Window

NONE = "-"


def count(number: int) -> str:
    """A whole number: 1,234,567."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """So many of something: 1 request, 2 requests."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def milliseconds(duration_ms: float | None) -> str:
    """A latency in whole milliseconds."""
    return NONE if duration_ms is None else f"{duration_ms:,.0f}"


def usd(cost: Decimal) -> str:
    """US dollars to a hundredth of a cent; ``--json`` has every digit."""
    return f"{cost:,.4f}"


def percentile_bound(error: float) -> str:
    """How far percentiles of an answer may be off, in a sentence."""
    return f"Percentiles are within {percent(error)}; the rest is exact."


def percent(share: float) -> str:
    """A share of 0 to 1 in percent."""
    return f"{share:.2%}"


def moment(at: datetime) -> str:
    """A time in UTC, no finer than it needs to be."""
    shown = at.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")
    return shown.removesuffix(".000").removesuffix(":00")


def heading(window: Window, scope: UUID | AllUsers) -> str:
    """What a table or chart is about."""
    whose = "all users" if scope is ALL_USERS else f"user {scope}"
    return f"{moment(window.start)} to {moment(window.end)} UTC, {whose}"
