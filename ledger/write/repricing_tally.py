"""What a repricing finds, counted and added up call by call."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ledger.records.amounts import exactly
from ledger.records.repricing import RepricedModel, Repricing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row

    from ledger.window import Window


@dataclass(slots=True, kw_only=True)
class _Change:
    """Differences added up."""

    requests: int = 0
    vendor_cost: Decimal = Decimal(0)
    charge_usd: Decimal = Decimal(0)
    credits_deducted: int = 0

    def add(self, adjustment: Mapping[str, Any]) -> None:
        self.requests += 1
        self.vendor_cost += adjustment["vendor_cost"]
        self.charge_usd += adjustment["charge_usd"]
        self.credits_deducted += adjustment["credits_deducted"]


@dataclass(slots=True, kw_only=True)
class RepricingTally:
    """What has come of the calls so far."""

    examined: int = 0
    newly_priced: int = 0
    still_unpriced: int = 0
    booked: int = 0
    _whole: _Change = field(default_factory=_Change)
    _by_model: dict[tuple[str, str], _Change] = field(default_factory=lambda: defaultdict(_Change))

    @exactly
    def add(self, call: Row[Any], adjustment: Mapping[str, Any] | None, *, is_priced: bool) -> None:
        """Count a call that was looked at; what it comes out at differently is ``adjustment``."""
        self.examined += 1
        if adjustment is None:
            self.still_unpriced += not is_priced
            return
        self.newly_priced += not is_priced
        for change in (self._whole, self._by_model[call.provider, call.model_id]):
            change.add(adjustment)

    def told(self, window: Window, *, is_dry_run: bool) -> Repricing:
        """The same as the caller sees it."""
        return Repricing(
            window=window,
            is_dry_run=is_dry_run,
            examined=self.examined,
            changed=self._whole.requests,
            newly_priced=self.newly_priced,
            still_unpriced=self.still_unpriced,
            booked=self.booked,
            vendor_cost_change_usd=self._whole.vendor_cost,
            charge_change_usd=self._whole.charge_usd,
            credits_change=self._whole.credits_deducted,
            by_model=tuple(
                RepricedModel(
                    provider=provider,
                    model=model,
                    requests=change.requests,
                    vendor_cost_change_usd=change.vendor_cost,
                    charge_change_usd=change.charge_usd,
                    credits_change=change.credits_deducted,
                )
                for (provider, model), change in sorted(self._by_model.items())
            ),
        )
