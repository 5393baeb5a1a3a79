"""Alembic operations about tables: the first row of all, and a drop that loses nothing unseen."""

from __future__ import annotations

from alembic.operations import MigrateOperation, Operations

from ledger.ddl.losses import refuse_loss, refuse_or_foresee
from ledger.ddl.operations import is_loss_allowed, storage_of
from ledger.ddl.rendering import HOME
from ledger.ddl.steps import Step, literal, run
from ledger.settings import Storage


@Operations.register_operation("record_installation")
class RecordInstallation(MigrateOperation):
    """Make the extensions and write down which storage and encoding this database has."""

    def __init__(self, bins_version: int) -> None:
        self.bins_version = bins_version

    @classmethod
    def record_installation(cls, operations: Operations, *, bins_version: int) -> None:
        """Called by the first revision, once the table exists."""
        operations.invoke(cls(bins_version))


@Operations.implementation_for(RecordInstallation)
def _record(operations: Operations, operation: RecordInstallation) -> None:
    context = operations.get_context()
    storage, rendering = storage_of(context)
    extensions = []
    if storage is Storage.TIMESCALE:
        extensions.append("timescaledb")
    if rendering.is_of_sketches:
        extensions.append("timescaledb_toolkit")
    run(
        context,
        [
            # Where other roles, too, find time_bucket and uddsketch.
            *(
                Step(sql=f"CREATE EXTENSION IF NOT EXISTS {name} SCHEMA {HOME}")
                for name in extensions
            ),
            Step(
                sql="INSERT INTO ledger.installation (storage, percentiles, bins_version) VALUES"
                f" ({literal(storage)}, {literal(rendering.percentiles)}, {operation.bins_version})"
            ),
        ],
    )


@Operations.register_operation("drop_ledger_table")
class DropLedgerTable(MigrateOperation):
    """Drop a table of the ledger, unless it holds rows whose loss was not allowed by name."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def drop_ledger_table(cls, operations: Operations, name: str) -> None:
        """The downgrade's last step for a table."""
        operations.invoke(cls(name))


@Operations.implementation_for(DropLedgerTable)
def _drop_table(operations: Operations, operation: DropLedgerTable) -> None:
    _drop(operations, operation.name, f"DROP TABLE ledger.{operation.name}")


@Operations.register_operation("drop_ledger_column")
class DropLedgerColumn(MigrateOperation):
    """Drop a column of a table, unless it holds values whose loss was not allowed by name."""

    def __init__(self, table: str, column: str) -> None:
        self.table, self.column = table, column

    @classmethod
    def drop_ledger_column(cls, operations: Operations, table: str, column: str) -> None:
        """The reverse of a column that was added."""
        operations.invoke(cls(table, column))


@Operations.implementation_for(DropLedgerColumn)
def _drop_column(operations: Operations, operation: DropLedgerColumn) -> None:
    table, column = operation.table, operation.column
    _drop(
        operations,
        table,
        f"ALTER TABLE ledger.{table} DROP COLUMN {column}",
        rows=f"WHERE {column} IS NOT NULL",
        what=f"values of {column}",
    )


def _drop(operations: Operations, table: str, drop: str, **lost: str) -> None:
    """Carry out the drop, where nothing is ``lost`` that may not be."""
    context = operations.get_context()
    allowed = is_loss_allowed(context, table)
    # Else a row that is committed between the look and the drop is lost.
    run(context, [Step(sql=f"LOCK TABLE ledger.{table} IN ACCESS EXCLUSIVE MODE")])
    refuse_or_foresee(context, refuse_loss(table, allowed=allowed, **lost))
    run(context, [Step(sql=drop)])
