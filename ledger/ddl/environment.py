"""What `alembic/env.py` does: each migration in a transaction, one deploy at a time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ledger.ddl import access, autogenerate, table_operations  # noqa: F401  registers operations
from ledger.ddl import storage as storages
from ledger.ddl.deploys import is_in_the_way, only_one_deploy, session_settings
from ledger.ddl.guard import guard
from ledger.ddl.losses import refuse_losses
from ledger.ddl.rendering import Rendering, rendering_of
from ledger.ddl.search_path import FIXED, TRUSTED
from ledger.engine import database_url
from ledger.errors import InvalidSettings, MigrationFailed
from ledger.models.base import SCHEMA, Base
from ledger.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.runtime.environment import EnvironmentContext
    from sqlalchemy import URL, Engine

LOCK_TIMEOUT = "5s"
"""How long ordinary DDL stands in a table's queue, and whoever comes after it stands behind."""
LOCK_ATTEMPTS = 20
_PAUSE_SECONDS = 0.5


def _configure(context: EnvironmentContext, **described: Any) -> None:
    autogenerate.register()
    arguments = (a.partition("=") for a in context.get_x_argument(as_dictionary=False))
    losses = [value for name, _, value in arguments if name == "allow-data-loss"]
    attributes = context.config.attributes
    context.configure(
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=autogenerate.include_name,
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
        ledger_rendering=Rendering(percentiles=percentiles),
    )
    write = context.get_context().impl.static_output
    write("\\set ON_ERROR_STOP on")
    write(f"{FIXED};")
    write(f"{guard(storage, percentiles)};")
    write(f"{storages.CLAIM_SCHEMA_SQL};")
    with context.begin_transaction():
        context.run_migrations()


def run_online(context: EnvironmentContext) -> None:
    """Run the revisions on what the caller gives, else on the database of the settings.

    `config.attributes` may hold a "connection" (or engine) or a "ledger_url". A connection is
    handed back as it was; it may not be in a transaction, as revisions commit, each its own.
    Raises MigrationFailed where it is.
    """
    given: Connection | Engine | None = context.config.attributes.get("connection")
    if isinstance(given, Connection):
        if given.in_transaction():
            raise MigrationFailed(
                "the connection to migrate on is in a transaction, and migrations commit: hand"
                " over one that was not used since its last commit, from engine.connect() and"
                " not from engine.begin()"
            )
        with only_one_deploy(given):
            _migrate(context, given)
        return
    engine = given or create_engine(_url(context), poolclass=NullPool)
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as locking,
        only_one_deploy(locking),
        engine.connect() as connection,
    ):
        _migrate(context, connection)


def _url(context: EnvironmentContext) -> URL:
    if (given := context.config.attributes.get("ledger_url")) is not None:
        return database_url(given)
    settings = Settings.load()
    secret = settings.migration_url
    return database_url(secret.get_secret_value() if secret else settings.require_database_url())


def _migrate(context: EnvironmentContext, connection: Connection) -> None:
    """Run the revisions, from where the last attempt came to, until no lock stands in the way."""
    settings = {
        # A deploy that is killed must not leave the server building on: it meets the next one.
        "client_connection_check_interval": "2s",
        "lock_timeout": LOCK_TIMEOUT,
        "search_path": TRUSTED,
    }
    with session_settings(connection, settings), _no_default_schema_of_ours(connection):
        for attempt in range(1, LOCK_ATTEMPTS + 1):
            try:
                _run_migrations(context, connection)
            except DBAPIError as error:
                if not is_in_the_way(error) or attempt == LOCK_ATTEMPTS:
                    raise
                connection.rollback()
                # Those who stood behind us go first.
                time.sleep(_PAUSE_SECONDS)
            else:
                return


@contextmanager
def _no_default_schema_of_ours(connection: Connection) -> Iterator[None]:
    """Have alembic see our schema, which it leaves out where it is the connection's default.

    It is for a role named ledger, as "$user" begins the search path.
    """
    dialect = connection.dialect
    before = dialect.default_schema_name
    if before == SCHEMA:
        dialect.default_schema_name = "public"
    try:
        yield
    finally:
        dialect.default_schema_name = before


def _run_migrations(context: EnvironmentContext, connection: Connection) -> None:
    attributes = context.config.attributes
    settings = Settings.load()
    storages.claim_schema(connection)
    storage, percentiles = storages.decide(
        connection,
        attributes.get("ledger_storage") or settings.storage,
        attributes.get("ledger_percentiles") or settings.percentiles,
    )
    rendering = rendering_of(connection, percentiles)
    connection.commit()
    _configure(context, connection=connection, ledger_storage=storage, ledger_rendering=rendering)
    refuse_losses(context.get_context())
    connection.commit()
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
    _renew_grants(context, connection)
    connection.commit()


def _renew_grants(context: EnvironmentContext, connection: Connection) -> None:
    """Give roles what their kinds have in this version, where an upgrade has come to its head."""
    migration = context.get_context()
    is_upgrade = getattr(migration.opts.get("fn"), "__name__", "") == "upgrade"
    if is_upgrade and set(migration.get_current_heads()) == set(context.script.get_heads()):
        access.renew(connection)
