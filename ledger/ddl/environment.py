"""What `alembic/env.py` does: each migration in a transaction, one deploy at a time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from ledger.ddl import autogenerate
from ledger.ddl import storage as storages
from ledger.ddl.operations import guard
from ledger.engine import database_url
from ledger.errors import InvalidSettings, MigrationFailed
from ledger.models import access, installation, telemetry  # noqa: F401  fill the metadata
from ledger.models.base import SCHEMA, Base
from ledger.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from alembic.runtime.environment import EnvironmentContext
    from sqlalchemy import URL, Engine

MIGRATION_LOCK = 5_202_611_210_002
"""Key of the advisory lock that one deploy holds while it migrates."""

_LOCK_PATIENCE_SECONDS = 900
_MANAGED_ELSEWHERE = ("llm_metrics_1m", "llm_metrics_1h")


def include_name(name: str | None, kind: str, parents: MutableMapping[Any, str | None]) -> bool:
    """Which objects of the database are ours to compare: our schema, and no partitions of it.

    Everything else in the schema counts, so that a rogue table shows.
    """
    if kind == "schema":
        return name == SCHEMA
    if kind == "table" and name is not None:
        is_partition = name.startswith("llm_requests_p") and name[-8:].isdigit()
        is_declared = name.startswith(_MANAGED_ELSEWHERE) or name == "llm_requests_touched"
        return parents["schema_name"] == SCHEMA and not is_partition and not is_declared
    return True


def _configure(context: EnvironmentContext, **described: Any) -> None:
    autogenerate.register()
    arguments = (a.partition("=") for a in context.get_x_argument(as_dictionary=False))
    losses = [value for name, _, value in arguments if name == "allow-data-loss"]
    attributes = context.config.attributes
    context.configure(
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=include_name,
        transaction_per_migration=True,
        autogenerate_plugins=autogenerate.PLUGINS,
        compare_type=True,
        compare_server_default=True,
        ledger_allowed_losses=(*losses, *attributes.get("ledger_allowed_losses", ())),
        process_revision_directives=attributes.get("process_revision_directives"),
        **described,
    )


def run_offline(context: EnvironmentContext) -> None:
    """Write the revisions as a script for psql; both settings must be named.

    Raises InvalidSettings where one is not: a script cannot ask the server what it has.
    """
    attributes = context.config.attributes
    settings = Settings.load()
    storage = attributes.get("ledger_storage") or settings.storage
    percentiles = attributes.get("ledger_percentiles") or settings.percentiles
    if storage is None or percentiles is None:
        raise InvalidSettings(
            "a script needs LEDGER_STORAGE (timescale or postgres) and LEDGER_PERCENTILES"
            " (uddsketch or histogram): it cannot ask the server what it has"
        )
    _configure(
        context,
        url="postgresql+psycopg://",
        # Else every % in a function's body is doubled.
        dialect_opts={"paramstyle": "named"},
        ledger_storage=storage,
        ledger_percentiles=percentiles,
    )
    write = context.get_context().impl.static_output
    write("\\set ON_ERROR_STOP on")
    write(f"{guard(storage, percentiles)};")
    write(f"{storages.CLAIM_SCHEMA_SQL};")
    with context.begin_transaction():
        context.run_migrations()


def run_online(context: EnvironmentContext) -> None:
    """Run the revisions on what the caller gives, else on the database of the settings.

    `config.attributes` may hold a "connection" (or engine) or a "ledger_url".
    """
    given: Connection | Engine | None = context.config.attributes.get("connection")
    if isinstance(given, Connection):
        _migrate(context, given)
        return
    engine = given or create_engine(_url(context), poolclass=NullPool)
    with only_one_deploy(engine), engine.connect() as connection:
        _migrate(context, connection)


def _url(context: EnvironmentContext) -> URL:
    if (given := context.config.attributes.get("ledger_url")) is not None:
        return database_url(given)
    settings = Settings.load()
    secret = settings.migration_url
    return database_url(secret.get_secret_value() if secret else settings.require_database_url())


def _migrate(context: EnvironmentContext, connection: Connection) -> None:
    attributes = context.config.attributes
    settings = Settings.load()
    storage, percentiles = storages.decide(
        connection,
        attributes.get("ledger_storage") or settings.storage,
        attributes.get("ledger_percentiles") or settings.percentiles,
    )
    storages.claim_schema(connection)
    # A deploy that is killed must not leave the server building on: it would meet the next one.
    connection.execute(text("SET client_connection_check_interval = '2s'"))
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.commit()
    _configure(
        context, connection=connection, ledger_storage=storage, ledger_percentiles=percentiles
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


@contextmanager
def only_one_deploy(engine: Engine) -> Iterator[None]:
    """Hold the migration lock on a connection of its own.

    Polled, because a session that waits in pg_advisory_lock holds a snapshot that a concurrent
    index build waits for: a deadlock. Raises MigrationFailed after a quarter of an hour.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
        while not connection.scalar(text(f"SELECT pg_try_advisory_lock({MIGRATION_LOCK})")):
            if time.monotonic() > deadline:
                raise MigrationFailed(
                    "another deploy has been migrating this database for a quarter of an hour;"
                    " see who holds the advisory lock in pg_locks, and try again"
                )
            time.sleep(0.2)
        yield
