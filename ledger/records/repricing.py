"""What a repricing found, and booked."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ledger.records.plain import Record
from ledger.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class RepricedModel(Record):
    """The differences of one model's calls."""

    provider: str
    model: str
    requests: int
    vendor_cost_change_usd: Decimal
    charge_change_usd: Decimal
    credits_change: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repricing(Record):
    """What calls would have been booked at by the prices of today, against what they were."""

    window: Window
    is_dry_run: bool
    """Whether nothing was booked."""
    examined: int
    """Calls that are booked by a price or wait for one; a stated cost stays as it was stated."""
    changed: int
    """Those of them that come out differently."""
    newly_priced: int
    """Those of the changed that had no price before."""
    still_unpriced: int
    booked: int
    """Adjustments that were written; fewer than changed where another repricing was faster."""
    vendor_cost_change_usd: Decimal
    charge_change_usd: Decimal
    credits_change: int
    by_model: tuple[RepricedModel, ...]
    """By provider and model, the changed alone."""
