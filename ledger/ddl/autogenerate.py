"""Alembic's autogenerate, taught what it cannot see: our objects, and indexes in every detail."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from alembic.operations.ops import DropIndexOp
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, MetaData, text

from ledger.ddl.compare import amiss
from ledger.ddl.declared import DECLARED, RUNNING_SUMS
from ledger.ddl.objects import ConcurrentIndex, CoveringIndex, TimeSeries
from ledger.ddl.operations import ChangeObject
from ledger.ddl.running_sums import table_names
from ledger.ddl.shapes import indexes_of, made
from ledger.models.base import SCHEMA
from ledger.models.billing import TokenUsage

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import ModifyTableOps, UpgradeOps
    from sqlalchemy import Connection, Index, Table

PLUGIN: Final = "ledger.objects"
PLUGINS: Final = ("alembic.autogenerate.*", PLUGIN)
"""What env.py names in `autogenerate_plugins`."""

_TIME_SERIES: Final = {target.name for target in DECLARED if isinstance(target, TimeSeries)}
_INDEXED_CONCURRENTLY: Final = {TokenUsage.__tablename__}
_MADE_BY_OBJECTS: Final = frozenset(
    (
        "llm_metrics_1m_materialized",
        "llm_metrics_1h_materialized",
        "llm_requests_touched",
        *(name for sums in RUNNING_SUMS for name in table_names(sums)),
    )
)


def include_name(name: str | None, kind: str, parents: MutableMapping[Any, str | None]) -> bool:
    """Which objects of the database are ours to compare: our schema, and no partitions of it.

    Everything else in the schema counts, so that a rogue table shows.
    """
    if kind == "schema":
        return name == SCHEMA
    if kind == "table" and name is not None:
        is_partition = name.startswith("llm_requests_p") and name[-8:].isdigit()
        is_ours = parents["schema_name"] == SCHEMA
        return is_ours and not is_partition and name not in _MADE_BY_OBJECTS
    return True


def setup(plugin: Plugin) -> None:
    """Register the comparators; called once, by `register`."""
    plugin.add_autogenerate_comparator(_objects, "schema", priority=DispatchPriority.LAST)
    plugin.add_autogenerate_comparator(
        _indexes, "table", "indexes", priority=DispatchPriority.FIRST
    )


def register() -> None:
    """Make the plugin known to Alembic.

    By hand and not by the entry point `alembic.plugins`: that one is loaded while
    `import alembic.command` runs, in every program on the machine, and imports in a circle.
    """
    with suppress(ValueError):  # it is registered already
        setup(Plugin(PLUGIN))


def _objects(
    context: AutogenContext, operations: UpgradeOps, schemas: set[str | None]
) -> PriorityDispatchResult:
    connection = context.connection
    assert connection is not None, "autogenerate compares with a database"
    operations.ops += (ChangeObject(target, target) for target in amiss(connection))
    return PriorityDispatchResult.CONTINUE


def _indexes(
    context: AutogenContext,
    operations: ModifyTableOps,
    schema: str | None,
    table_name: str,
    found: Table | None,
    wanted: Table | None,
) -> PriorityDispatchResult:
    if (
        schema != SCHEMA
        or table_name not in _TIME_SERIES | _INDEXED_CONCURRENTLY
        or found is None
        or wanted is None
    ):
        return PriorityDispatchResult.CONTINUE
    connection = context.connection
    assert connection is not None, "autogenerate compares with a database"
    present = {str(index.name): index for index in found.indexes}
    for index in _differing(connection, wanted):
        if str(index.name) in present and not _is_unfinished(connection, index):
            operations.ops.append(ChangeObject(None, built_index(index)))
        operations.ops.append(ChangeObject(built_index(index)))
    declared = {str(index.name) for index in wanted.indexes}
    for name in sorted(present.keys() - declared):
        operations.ops.append(DropIndexOp.from_index(present[name]))
    return PriorityDispatchResult.STOP


def _differing(connection: Connection, table: Table) -> Iterator[Index]:
    """The table's declared indexes that the server does not have, or has otherwise.

    Alembic sees neither a changed INCLUDE or WHERE nor an INVALID index; the server's own
    words show both.
    """
    with connection.begin_nested() as savepoint:
        temporary = table.to_metadata(MetaData(), schema="pg_temp")
        # They may need a function or a table that is missing, which is reported as such.
        temporary.constraints -= {
            each
            for each in temporary.constraints
            if isinstance(each, (CheckConstraint, ForeignKeyConstraint))
        }
        for element in made(temporary):
            connection.execute(element)
        wanted = indexes_of(connection, f"pg_temp.{table.name}")
        savepoint.rollback()
    found = indexes_of(connection, f"{SCHEMA}.{table.name}")
    for index in sorted(table.indexes, key=lambda each: str(each.name)):
        if found.get(f"index {index.name}") != wanted[f"index {index.name}"]:
            yield index


def _is_unfinished(connection: Connection, index: Index) -> bool:
    """Whether a build of the index failed; making it again goes on from there."""
    statement = text("SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:index)")
    return bool(connection.scalar(statement, {"index": f"{SCHEMA}.{index.name}"}))


def built_index(index: Index) -> CoveringIndex | ConcurrentIndex:
    """A model's index as the operation that builds it without stopping writers."""
    options: dict[str, Any] = dict(index.dialect_options["postgresql"])
    where = options.get("where")
    assert index.table is not None, "an index belongs to a table"
    name, table = str(index.name), index.table.name
    condition = None if where is None else str(where)
    columns = tuple(
        f'"{column}"' if column == "timestamp" else str(column)
        for column in (getattr(each, "name", None) or str(each) for each in index.expressions)
    )
    if table in _TIME_SERIES:
        using = options.get("using") or "btree"
        return CoveringIndex(name=name, table=table, columns=columns, where=condition, using=using)
    include = tuple(options.get("include") or ())
    return ConcurrentIndex(
        name=name, table=table, columns=columns, include=include, where=condition
    )
