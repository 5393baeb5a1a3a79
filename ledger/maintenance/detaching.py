"""The statements that take a day out of the partitioned table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.ddl import ExecutableDDLElement

from ledger.models.base import SCHEMA
from ledger.queries.opening import SOURCE

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import DDLCompiler


class OfPartition(ExecutableDDLElement):
    """A statement about the table of one day."""

    def __init__(self, partition: str) -> None:
        self.partition = partition


class DetachConcurrently(OfPartition):
    """ALTER TABLE ... DETACH PARTITION ... CONCURRENTLY; not in a transaction."""


class FinalizeDetach(OfPartition):
    """ALTER TABLE ... DETACH PARTITION ... FINALIZE, of a detach that was cut short."""


class LockAgainstWriters(OfPartition):
    """LOCK TABLE ... IN SHARE MODE: waits for the day's open writers, and lets readers on."""


@compiles(DetachConcurrently)
def _detach(element: DetachConcurrently, compiler: DDLCompiler, **_: object) -> str:
    return f"{_alter(element, compiler)} CONCURRENTLY"


@compiles(FinalizeDetach)
def _finalize(element: FinalizeDetach, compiler: DDLCompiler, **_: object) -> str:
    return f"{_alter(element, compiler)} FINALIZE"


@compiles(LockAgainstWriters)
def _lock(element: LockAgainstWriters, compiler: DDLCompiler, **_: object) -> str:
    return f"LOCK TABLE ONLY {_quoted(element.partition, compiler)} IN SHARE MODE"


def _alter(element: OfPartition, compiler: DDLCompiler) -> str:
    parent, partition = _quoted(SOURCE, compiler), _quoted(element.partition, compiler)
    return f"ALTER TABLE {parent} DETACH PARTITION {partition}"


def _quoted(name: str, compiler: DDLCompiler) -> str:
    return f"{compiler.preparer.quote(SCHEMA)}.{compiler.preparer.quote(name)}"
