"""Indexes of ordinary tables: built beside writers, again after a failure, and analysed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.ddl.steps import Step

if TYPE_CHECKING:
    from ledger.ddl.objects import ConcurrentIndex


def create(target: ConcurrentIndex) -> list[Step]:
    """Build the index; a build that failed left an INVALID one, which IF NOT EXISTS would keep."""
    include = f" INCLUDE ({', '.join(target.include)})" if target.include else ""
    where = f" WHERE {target.where}" if target.where else ""
    return [
        _outside(
            f"SELECT 'DROP INDEX CONCURRENTLY ledger.{target.name}' FROM pg_index"
            f" WHERE indexrelid = to_regclass('ledger.{target.name}') AND NOT indisvalid"
        ),
        _outside(
            # As a row of a query: only those are run without lock_timeout.
            f"SELECT $$CREATE INDEX CONCURRENTLY IF NOT EXISTS {target.name}"
            f" ON ledger.{target.table} ({', '.join(target.columns)}){include}{where}$$"
        ),
        Step(sql=f"ANALYZE ledger.{target.table}", runs_outside_transaction=True),
    ]


def drop(target: ConcurrentIndex) -> list[Step]:
    """Drop the index beside readers and writers."""
    return [_outside(f"SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ledger.{target.name}'")]


def _outside(sql: str) -> Step:
    return Step(sql=sql, runs_outside_transaction=True, is_generator=True, is_patient=True)
