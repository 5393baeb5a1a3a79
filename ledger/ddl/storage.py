"""Which storage and encoding a database has, or is to get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from ledger.errors import ForeignSchema, StorageMismatch
from ledger.models.base import SCHEMA
from ledger.settings import Percentiles, Storage

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCHEMA_COMMENT = "llm-ledger"
"""By this comment on the schema we know it as ours."""


def recorded(connection: Connection) -> tuple[Storage, Percentiles] | None:
    """What the first migration wrote down, or None before it."""
    if connection.scalar(text("SELECT to_regclass('ledger.installation')")) is None:
        return None
    row = connection.execute(text("SELECT storage, percentiles FROM ledger.installation")).first()
    return None if row is None else (Storage(row[0]), Percentiles(row[1]))


def decide(
    connection: Connection, storage: Storage | None, percentiles: Percentiles | None
) -> tuple[Storage, Percentiles]:
    """What is recorded, else what is asked for, else the best this server has.

    Raises StorageMismatch where what is asked for is not what is recorded, or not to be had.
    """
    found = recorded(connection)
    if found is not None:
        for asked, has in zip((storage, percentiles), found, strict=True):
            if asked is not None and asked is not has:
                raise StorageMismatch(
                    f"the database was installed with {has}, not {asked}; unset LEDGER_STORAGE and"
                    " LEDGER_PERCENTILES, or use another database"
                )
        return found
    has_timescale = _has_timescale(connection)
    has_toolkit = _is_available(connection, "timescaledb_toolkit")
    if storage is Storage.TIMESCALE and not has_timescale:
        raise StorageMismatch(
            "LEDGER_STORAGE is timescale, but this server lacks TimescaleDB: it must be installed,"
            " named in shared_preload_libraries, and under the Community licence"
        )
    if percentiles is Percentiles.UDDSKETCH and not has_toolkit:
        raise StorageMismatch(
            "LEDGER_PERCENTILES is uddsketch, but this server lacks timescaledb_toolkit; install"
            " it, or use histogram"
        )
    return (
        storage or (Storage.TIMESCALE if has_timescale else Storage.POSTGRES),
        percentiles or (Percentiles.UDDSKETCH if has_toolkit else Percentiles.HISTOGRAM),
    )


def _is_available(connection: Connection, extension: str) -> bool:
    statement = text("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = :name)")
    return bool(connection.scalar(statement, {"name": extension}))


def _has_timescale(connection: Connection) -> bool:
    """Available, preloaded, and with the licence that has continuous aggregates.

    The licence is NULL until the extension's library was asked something, so NULL passes.
    """
    if not _is_available(connection, "timescaledb"):
        return False
    # shared_preload_libraries is for superusers to read; a preloaded library's settings are not.
    is_preloaded = connection.scalar(
        text("SELECT EXISTS (SELECT FROM pg_settings WHERE name LIKE 'timescaledb.%')")
    )
    licence = connection.scalar(text("SELECT current_setting('timescaledb.license', true)"))
    return bool(is_preloaded) and licence in {None, "", "timescale"}


def _holds_something(schema: str) -> str:
    """SQL for whether a schema has a relation, a routine or a type."""
    catalogues = {"pg_class": "relnamespace", "pg_proc": "pronamespace", "pg_type": "typnamespace"}
    return "({})".format(
        " OR ".join(
            f"EXISTS (SELECT FROM {catalogue} WHERE {column} = {schema})"
            for catalogue, column in catalogues.items()
        )
    )


def claim_schema(connection: Connection) -> None:
    """Make the schema, or make sure that the one there is ours or empty.

    CREATE SCHEMA IF NOT EXISTS needs CREATE on the database even where the schema exists, so
    it is looked for first. Raises ForeignSchema.
    """
    row = connection.execute(
        text(
            "SELECT obj_description(oid, 'pg_namespace'),"
            f" {_holds_something('n.oid')}"
            " FROM pg_namespace n WHERE nspname = :schema"
        ),
        {"schema": SCHEMA},
    ).first()
    if row is None:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    elif row[0] != SCHEMA_COMMENT and row[1]:
        raise ForeignSchema(
            "the database has a schema named ledger that this package did not make and that is"
            " not empty; use another database, or rename that schema"
        )
    if row is None or row[0] != SCHEMA_COMMENT:
        connection.execute(text(f"COMMENT ON SCHEMA {SCHEMA} IS '{SCHEMA_COMMENT}'"))


CLAIM_SCHEMA_SQL = f"""DO $block$
BEGIN
  IF to_regnamespace('{SCHEMA}') IS NULL THEN
    CREATE SCHEMA {SCHEMA};
  ELSIF obj_description(to_regnamespace('{SCHEMA}'), 'pg_namespace')
      IS DISTINCT FROM '{SCHEMA_COMMENT}'
      AND {_holds_something(f"to_regnamespace('{SCHEMA}')")} THEN
    RAISE EXCEPTION 'the database has a schema named {SCHEMA} that this package did not make';
  END IF;
  COMMENT ON SCHEMA {SCHEMA} IS '{SCHEMA_COMMENT}';
END
$block$"""
