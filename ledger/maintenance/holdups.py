"""Who keeps maintenance waiting, for a person to read."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Integer, String, func, select
from sqlalchemy import table as lightweight_table
from sqlalchemy.dialects.postgresql import TIMESTAMP

_activity = lightweight_table(
    "pg_stat_activity",
    Column("pid", Integer),
    Column("datname", String),
    Column("application_name", String),
    Column("backend_type", String),
    Column("xact_start", TIMESTAMP(timezone=True)),
    schema="pg_catalog",
)


def longest_transaction(connection: Connection) -> str:
    """Who has been in a transaction for longest in this database, for a person to read."""
    statement = (
        select(_activity.c.pid, _activity.c.application_name, _activity.c.xact_start)
        .where(
            _activity.c.datname == func.current_database(),
            _activity.c.pid != func.pg_backend_pid(),
            _activity.c.backend_type == "client backend",
            _activity.c.xact_start.is_not(None),
        )
        .order_by(_activity.c.xact_start)
        .limit(1)
    )
    with connection.begin():
        row = connection.execute(statement).one_or_none()
    if row is None:
        return "a transaction that is over by now, or that this role may not see, used it"
    program = f" ({row.application_name})" if row.application_name else ""
    return (
        f"process {row.pid}{program} is in a transaction since"
        f" {row.xact_start.isoformat(timespec='seconds')}"
    )
