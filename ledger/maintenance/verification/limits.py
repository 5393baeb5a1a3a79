"""How long a dashboard may wait for its answers: the limits of 100,000 rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ledger.records.plain import Record

OF_ROWS: Final = 100_000
"""The rows that the limits are for; the answers here should take as long at any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Record):
    """Milliseconds that one answer may take."""

    target_from_ms: float
    target_ms: float
    """The target is a range; whatever is faster is on it, too."""
    acceptable_ms: float
    unacceptable_ms: float
    """Slower than this fails; between the two, where they differ, is a warning."""


LIMITS: Final[Mapping[str, Limits]] = {
    "gross_margin": Limits(
        target_from_ms=50, target_ms=200, acceptable_ms=500, unacceptable_ms=500
    ),
    "provider_costs": Limits(
        target_from_ms=100, target_ms=300, acceptable_ms=700, unacceptable_ms=700
    ),
    "margin_trend": Limits(
        target_from_ms=200, target_ms=500, acceptable_ms=1_000, unacceptable_ms=1_000
    ),
    "cost_distribution": Limits(
        target_from_ms=300, target_ms=600, acceptable_ms=1_200, unacceptable_ms=1_200
    ),
}
"""By question of the billing ledger."""
