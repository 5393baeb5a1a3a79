"""What a connection knows of its database: how it was installed, how far its rollups have come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ledger.settings import Percentiles, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """How this database was installed; it never changes."""

    storage: Storage
    percentiles: Percentiles
    bins_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """How far back raw rows reach and how far rollups have come, at one moment.

    Both bounds are whole hours in UTC; None is the beginning of time.
    """

    now: datetime
    """The database's clock."""
    raw_from: datetime | None
    """Raw rows before it may be gone."""
    watermark: datetime | None
    """Every hour before it was rolled up."""
    has_late_hours: bool = False
    """Whether hours before it have got rows since, which are read from the raw ones."""
