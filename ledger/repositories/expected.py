"""What the settings say about the database, held against what it is."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.errors import StorageMismatch
from ledger.records.installation import Installed
from ledger.settings import Percentiles, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The storage and the encoding that the settings ask for; None is either."""

    storage: Storage | None = None
    percentiles: Percentiles | None = None

    def require(self, found: Installed) -> Installed:
        """What was found, if it is what was asked for. Raises StorageMismatch."""
        for name, asked, is_there in (
            ("LEDGER_STORAGE", self.storage, found.storage),
            ("LEDGER_PERCENTILES", self.percentiles, found.percentiles),
        ):
            if asked is not None and asked is not is_there:
                raise StorageMismatch(
                    f"{name} asks for {asked}, and the database was installed with {is_there};"
                    f" unset {name}, or name another database"
                )
        return found


ANY = Expected()
