"""How long each level is kept: what is wished, and a new wish."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import cast, select
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.exc import DBAPIError

from ledger.ddl.objects import Retention
from ledger.ddl.operations import ChangeObject
from ledger.ddl.rendering import rendering_of
from ledger.ddl.search_path import trusted
from ledger.ddl.steps import run
from ledger.ddl.storage import recorded
from ledger.ddl.wishes import record_wish
from ledger.errors import InvalidArgument, SchemaNotReady, translate
from ledger.models.installation import Installation

if TYPE_CHECKING:
    from sqlalchemy import Connection

LEVELS: Final = {"raw": "llm_requests", "1m": "llm_metrics_1m", "1h": "llm_metrics_1h"}

LONGEST: Final = timedelta(days=36_500)
"""A century. PostgreSQL's calendar begins in 4713 BC; before it there is no `now() - keep`."""


def wishes(connection: Connection) -> dict[str, timedelta | None]:
    """How long each level ("raw", "1m", "1h") is kept; None is for ever."""
    wished = {
        level: cast(Installation.retention[relation].astext, INTERVAL).label(level)
        for level, relation in LEVELS.items()
    }
    row = connection.execute(select(*wished.values())).mappings().first()
    if row is None:
        raise SchemaNotReady
    return dict(row)


def set_retention(connection: Connection, level: str, keep: timedelta) -> None:
    """Keep the level's rows for ``keep`` from now on, in the caller's transaction.

    Raises InvalidArgument for a level there is not and for more than a century,
    RetentionRefused where a refresh or a late row would then erase rollups that are kept;
    nothing is changed in either case, and the transaction goes on.

    Raw rows that are kept for less than before are no longer rolled up. Where some still wait,
    plain PostgreSQL refuses; TimescaleDB cannot tell. So run maintenance first.
    """
    if level not in LEVELS:
        raise InvalidArgument(f"{level!r} is not a level; use one of {', '.join(LEVELS)}")
    if keep > LONGEST or keep % timedelta(seconds=1):
        raise InvalidArgument(
            f"{keep} is not a time to keep rows for; use whole seconds, and {LONGEST.days} days"
            " at most"
        )
    with trusted(connection):
        found = recorded(connection)
    if found is None:
        raise SchemaNotReady
    storage, percentiles = found
    rendering = rendering_of(connection, percentiles)
    context = MigrationContext.configure(
        connection, opts={"ledger_storage": storage, "ledger_rendering": rendering}
    )
    try:
        with connection.begin_nested(), trusted(connection):
            retention = Retention(name=LEVELS[level], keep=keep)
            run(context, [record_wish(retention)])
            Operations(context).invoke(ChangeObject(retention))
    except DBAPIError as error:
        raise (translate(error) or error) from error
