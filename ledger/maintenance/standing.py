"""Where the database stands: how it was installed, its clock, its raw horizon, its watermark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.models.installation import RollupProgress
from ledger.queries.opening import OPENING, SOURCE, context

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

    from ledger.queries.query import Context


def standing(connection: Connection) -> Context:
    """All of it at one moment. Raises SchemaNotReady where the ledger is not installed."""
    with connection.begin():
        return context(connection.execute(OPENING).all())


def progress_is_of_series() -> ColumnElement[bool]:
    """The one row of `rollup_progress`."""
    return RollupProgress.source == SOURCE
