"""What a ledger was opened with that decides about what is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ledger.records.usage import Charging
from ledger.settings import Settings

FUTURE_TOLERANCE: Final[timedelta] = Settings.model_fields["future_tolerance"].default
CHARGING: Final = Charging()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How far ahead of the database's clock records may be, and what calls are charged."""

    future_tolerance: timedelta = FUTURE_TOLERANCE
    charging: Charging = CHARGING


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
