"""Plain PostgreSQL's partitions: one a day (UTC), made ahead of time, and where each stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import Boolean, Column, Connection, Date, Integer, String, and_, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy import table as lightweight_table
from sqlalchemy.dialects.postgresql import OID, REGCLASS

from ledger.models.base import SCHEMA
from ledger.queries.opening import SOURCE
from ledger.queries.query import AnySelect

DAY: Final = timedelta(days=1)
DAYS_AHEAD: Final = 7

_PREFIX: Final = f"{SOURCE}_p"

_classes = lightweight_table(
    "pg_class",
    Column("oid", OID),
    Column("relname", String),
    Column("relnamespace", OID),
    Column("relkind", String),
    schema="pg_catalog",
)
_namespaces = lightweight_table(
    "pg_namespace", Column("oid", OID), Column("nspname", String), schema="pg_catalog"
)
_inheritance = lightweight_table(
    "pg_inherits",
    Column("inhrelid", OID),
    Column("inhparent", OID),
    Column("inhdetachpending", Boolean),
    schema="pg_catalog",
)


class Attachment(StrEnum):
    """How a day's table stands to the partitioned one."""

    ATTACHED = "attached"
    DETACHING = "detaching"
    """A detach was begun and not finished: no statement sees its rows, and none can go in."""
    DETACHED = "detached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """The table of one day."""

    day: date
    attachment: Attachment

    @property
    def name(self) -> str:
        """What it is called, without the schema."""
        return f"{_PREFIX}{self.day:%Y%m%d}"

    @property
    def start(self) -> datetime:
        """The first moment of its day."""
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after its day."""
        return self.start + DAY


def make_days_ahead(connection: Connection) -> int:
    """Make the partitions of today and of the days to come; how many were missing."""
    today = sql_cast(func.timezone("UTC", func.now()), Date)
    days = func.array(
        select(today + sql_cast(func.generate_series(0, DAYS_AHEAD), Integer)).scalar_subquery()
    )
    with connection.begin():
        made: int = connection.execute(
            select(func.ledger.ensure_days(days, type_=Integer))
        ).scalar_one()
    return made


def partitions(connection: Connection) -> list[Partition]:
    """Every day that has a table, the oldest first, whether or not it is attached."""
    with connection.begin():
        rows = connection.execute(_tables_of_days()).all()
    return [
        Partition(
            day=datetime.strptime(name.removeprefix(_PREFIX), "%Y%m%d").replace(tzinfo=UTC).date(),
            attachment=_ATTACHMENTS[is_detaching],
        )
        for name, is_detaching in rows
    ]


_ATTACHMENTS: Final = {
    False: Attachment.ATTACHED,
    True: Attachment.DETACHING,
    None: Attachment.DETACHED,
}


def _tables_of_days() -> AnySelect:
    is_of_parent = _inheritance.c.inhparent == sql_cast(f"{SCHEMA}.{SOURCE}", REGCLASS)
    return (
        select(_classes.c.relname, _inheritance.c.inhdetachpending)
        .select_from(_classes)
        .join(_namespaces, _namespaces.c.oid == _classes.c.relnamespace)
        .outerjoin(_inheritance, and_(_inheritance.c.inhrelid == _classes.c.oid, is_of_parent))
        .where(
            _namespaces.c.nspname == SCHEMA,
            _classes.c.relkind == "r",
            _classes.c.relname.regexp_match(f"^{_PREFIX}[0-9]{{8}}$"),
        )
        .order_by(_classes.c.relname)
    )
