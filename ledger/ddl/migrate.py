"""Migrations from Python: up, down, as a script, and whether the database is as declared."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from ledger.ddl.compare import differences
from ledger.ddl.difference import Difference
from ledger.ddl.search_path import trusted
from ledger.engine import database_url, translated_errors
from ledger.errors import MigrationFailed, SchemaNotReady
from ledger.models.base import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from ledger.settings import Percentiles, Storage


def scripts() -> Path:
    """Where the revisions are: in the wheel beside the package, in a checkout beside its folder."""
    package = Path(__file__).parent.parent
    installed = package / "_alembic"
    return installed if installed.is_dir() else package.parent / "alembic"


def _config(**attributes: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.attributes.update(attributes)
    return config


def upgrade(
    url: str,
    revision: str = "head",
    *,
    storage: Storage | None = None,
    percentiles: Percentiles | None = None,
) -> None:
    """Bring the database to ``revision``; safe beside another deploy, and again after a kill.

    Ordinary DDL waits at most 5 s for a lock and is tried again, so that it never stands in
    front of production's readers. Raises StorageMismatch, ForeignSchema, MigrationFailed.
    """
    config = _config(ledger_url=url, ledger_storage=storage, ledger_percentiles=percentiles)
    _run(lambda: command.upgrade(config, revision))


def upgrade_sql(revision: str = "head", *, storage: Storage, percentiles: Percentiles) -> str:
    """The upgrade as a script for psql, for this storage and encoding."""
    script = io.StringIO()
    config = _config(ledger_storage=storage, ledger_percentiles=percentiles)
    config.output_buffer = script
    _run(lambda: command.upgrade(config, revision, sql=True))
    return script.getvalue()


def downgrade(url: str, revision: str, *, allow_data_loss: Sequence[str] = ()) -> None:
    """Take the database back to ``revision`` ("base" for nothing).

    Raises DataLossRefused where a table that would go holds rows, or a rollup the history of
    rows that are gone, and is not in ``allow_data_loss``; nothing is changed then.
    """
    config = _config(ledger_url=url, ledger_allowed_losses=tuple(allow_data_loss))
    _run(lambda: command.downgrade(config, revision))


def current(url: str) -> str | None:
    """The revision that the database is at, None before the first."""
    engine = create_engine(database_url(url), poolclass=NullPool)
    with translated_errors(), engine.connect() as connection:
        return _revision(connection)


def require_head(connection: Connection) -> None:
    """Raise SchemaNotReady where the database is at another revision than the newest."""
    if (found := _revision(connection)) != (needed := head()):
        raise SchemaNotReady(
            f"the database is at revision {found or 'none'}, this package needs {needed};"
            " run `ledger db upgrade`"
        )


def _revision(connection: Connection) -> str | None:
    with trusted(connection):
        context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
        return context.get_current_revision()


def head() -> str:
    """The newest revision this package has."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    assert newest is not None, "the package ships revisions"
    return newest


def check(url: str) -> list[Difference]:
    """Where the database is not what the package declares; an empty list is the good answer.

    Raises SchemaNotReady where it is not at the newest revision.
    """
    engine = create_engine(database_url(url), poolclass=NullPool)
    with translated_errors(), engine.connect() as connection:
        require_head(connection)
        return differences(connection)


def _run(action: Callable[[], None]) -> None:
    try:
        with translated_errors():
            action()
    except CommandError as error:
        raise MigrationFailed(str(error)) from error
