"""What an import of prices did, as it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.records.plain import Record

if TYPE_CHECKING:
    from ledger.cli.price_plan import Difference
    from ledger.pricing.genai_models import LeftOut
    from ledger.records.report import Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceImport(Record):
    """What an import did, or on a dry run would do."""

    source: str
    is_dry_run: bool
    inserted: int
    known: int
    overruled: int
    """Prices of the catalogue for what you price yourself: yours stay."""
    new_providers: tuple[str, ...]
    """Names that were made known for these prices."""
    from_now: tuple[Difference, ...]
    """Of the inserted: what the catalogue has changed, from now on."""
    kept: tuple[Difference, ...]
    """What is said otherwise than recorded, of the past or by somebody else, and stays so."""
    conflicting: tuple[Difference, ...]
    """What is said otherwise than recorded, and waits for a decision."""
    rejected: tuple[Rejected, ...]
    """What another import got ahead of."""
    left_out: tuple[LeftOut, ...]
