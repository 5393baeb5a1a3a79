"""What a ledger was opened with that decides about what is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ledger.errors import InvalidSettings
from ledger.records.usage import Charging
from ledger.settings import MOST_TOLERANCE, Settings

FUTURE_TOLERANCE: Final[timedelta] = Settings.model_fields["future_tolerance"].default
CHARGING: Final = Charging()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How far ahead of the database's clock records may be, and what calls are charged."""

    future_tolerance: timedelta = FUTURE_TOLERANCE
    charging: Charging = CHARGING

    def __post_init__(self) -> None:
        """Raise InvalidSettings for a tolerance that no clock needs."""
        if not timedelta(0) <= self.future_tolerance <= MOST_TOLERANCE:
            raise InvalidSettings(
                f"future_tolerance {self.future_tolerance} is not from 0 to {MOST_TOLERANCE}; what"
                " is further ahead is by a wrong clock"
            )


STANDARD_TERMS: Final = Terms()


def terms_of(settings: Settings) -> Terms:
    """What the environment says."""
    return Terms(
        future_tolerance=settings.future_tolerance,
        charging=Charging(
            credit_value_usd=settings.credit_value_usd,
            charges_failures=settings.charges_failures,
        ),
    )
