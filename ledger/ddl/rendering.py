"""For which database SQL is rendered: its encoding, and where its extensions' names are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from ledger.settings import Percentiles

if TYPE_CHECKING:
    from sqlalchemy import Connection

HOME: Final = "public"
"""Where the first revision makes the extensions that are not there yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What the SQL of an object depends on, beyond the object and the storage.

    Schemas are quoted where they have to be.
    """

    percentiles: Percentiles
    timescaledb: str = HOME
    """The schema of `time_bucket` and its like."""
    toolkit: str = HOME
    """The schema of `uddsketch` and its like."""

    @property
    def is_of_sketches(self) -> bool:
        """Whether latencies are kept in the toolkit's sketches, not in histograms."""
        return self.percentiles is Percentiles.UDDSKETCH


_SCHEMAS: Final = text(
    "SELECT extname, pg_catalog.quote_ident(nspname) AS schema FROM pg_catalog.pg_extension"
    " JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) extnamespace"
)


def rendering_of(connection: Connection, percentiles: Percentiles) -> Rendering:
    """How SQL is rendered for this database, whose extensions may be there already."""
    schemas = {row.extname: row.schema for row in connection.execute(_SCHEMAS)}
    return Rendering(
        percentiles=percentiles,
        timescaledb=schemas.get("timescaledb", HOME),
        toolkit=schemas.get("timescaledb_toolkit", HOME),
    )
