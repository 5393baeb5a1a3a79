"""`ledger db status`: where a database stands, at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from ledger.cli.console import hint, out, say_json
from ledger.cli.database import Database, connection_to
from ledger.cli.durations import spoken
from ledger.cli.figures import NONE, count, moment
from ledger.cli.questions import JSON
from ledger.cli.tables import facts
from ledger.ddl import migrate
from ledger.ddl.retention import wishes
from ledger.engine import shown
from ledger.queries.opening import OPENING, context
from ledger.records.plain import Record
from ledger.settings import Percentiles, Storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

ROW_ESTIMATES: Final = {
    Storage.TIMESCALE: "SELECT approximate_row_count('ledger.llm_requests')",
    Storage.POSTGRES: (
        "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint"
        " FROM pg_inherits JOIN pg_class ON oid = inhrelid"
        " WHERE inhparent = 'ledger.llm_requests'::regclass"
    ),
}
"""As many as the last ANALYZE of each part saw: counting them would read them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation(Record):
    """What a migrated database is made for, and how far it has come."""

    storage: Storage
    percentiles: Percentiles
    watermark: datetime | None
    """Every hour before it was rolled up."""
    raw_from: datetime | None
    """Raw rows before it may be gone."""
    retention: dict[str, timedelta | None]
    """How long each level is kept; None is for ever."""
    estimated_requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Record):
    """A database at a glance."""

    database: str
    """Its URL, without the password."""
    server: str
    """PostgreSQL's version."""
    revision: str | None
    head: str
    """The newest revision this package has."""
    installation: Installation | None
    """None unless the database is at the newest revision."""


def status(database: Database, *, as_json: JSON = False) -> None:
    """The server, storage, revision, horizon, retention and size of the database."""
    with database.url() as url:
        found = status_of(url)
    if as_json:
        say_json(found.to_dict())
        return
    out().print(facts(_facts(found)))
    if found.revision != found.head:
        hint("Next: ledger db upgrade")


def status_of(url: str) -> Status:
    """Where the database stands. Raises DatabaseUnavailable."""
    revision, head = migrate.current(url), migrate.head()
    with connection_to(url) as connection:
        return Status(
            database=shown(url),
            server=f"PostgreSQL {connection.scalar(text('SHOW server_version'))}",
            revision=revision,
            head=head,
            installation=_installation(connection) if revision == head else None,
        )


def _installation(connection: Connection) -> Installation:
    known = context(connection.execute(OPENING).all())
    storage = known.installed.storage
    return Installation(
        storage=storage,
        percentiles=known.installed.percentiles,
        watermark=known.horizon.watermark,
        raw_from=known.horizon.raw_from,
        retention=wishes(connection),
        estimated_requests=connection.scalar(text(ROW_ESTIMATES[storage])) or 0,
    )


def _facts(found: Status) -> Iterator[tuple[str, str]]:
    yield "database", found.database
    yield "server", found.server
    if found.revision == found.head:
        yield "revision", f"{found.revision}, the newest"
    else:
        yield "revision", f"{found.revision or 'none'}; this package has {found.head}"
    if (made := found.installation) is None:
        return
    yield "storage", str(made.storage)
    yield "percentiles", str(made.percentiles)
    yield "requests", f"about {count(made.estimated_requests)}"
    yield "rolled up before", f"{moment(made.watermark)} UTC" if made.watermark else NONE
    yield "raw rows from", f"{moment(made.raw_from)} UTC" if made.raw_from else "the beginning"
    for level, keep in made.retention.items():
        yield f"{level} kept for", spoken(keep)
