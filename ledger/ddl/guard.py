"""What an offline script begins with, so that it fails on the wrong server at once."""

from __future__ import annotations

from ledger.ddl.rendering import HOME
from ledger.ddl.steps import block, literal
from ledger.settings import Percentiles, Storage


def guard(storage: Storage, encoding: Percentiles) -> str:
    """What an offline script begins with, so that it fails on the wrong server at once."""
    wanted = [
        name
        for name, is_wanted in (
            ("timescaledb", storage is Storage.TIMESCALE),
            ("timescaledb_toolkit", encoding is Percentiles.UDDSKETCH),
        )
        if is_wanted
    ]
    checks = "\n".join(
        f"""  IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = '{name}') THEN
    RAISE EXCEPTION 'this script was written for a server with {name}, which this one lacks';
  END IF;
  IF EXISTS (SELECT FROM pg_extension
             WHERE extname = '{name}' AND extnamespace <> '{HOME}'::regnamespace) THEN
    RAISE EXCEPTION 'this script needs {name} in the schema {HOME}; migrate from Python instead';
  END IF;"""
        for name in wanted
    )
    if storage is Storage.TIMESCALE:
        checks += """
  IF NOT EXISTS (SELECT FROM pg_settings WHERE name LIKE 'timescaledb.%') THEN
    RAISE EXCEPTION 'this script needs timescaledb in shared_preload_libraries';
  END IF;"""
    return block(
        f"""BEGIN
{checks}
  -- Two IFs: one condition would be parsed whole, and the table is not there at first.
  IF to_regclass('ledger.installation') IS NOT NULL THEN
    IF EXISTS (SELECT FROM ledger.installation
        WHERE (storage, percentiles) <> ({literal(storage)}, {literal(encoding)})) THEN
      RAISE EXCEPTION 'this script is for {storage} with {encoding}; the database has another';
    END IF;
  END IF;
END"""
    )
