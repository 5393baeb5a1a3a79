"""Where the database is not what is declared: tables, objects, and what nobody declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from ledger.ddl import append_only, execution_chain, running_sums, touch_log
from ledger.ddl.declared import DECLARED, RUNNING_SUMS
from ledger.ddl.difference import Difference
from ledger.ddl.facts import differing, without_policies
from ledger.ddl.objects import AppendOnly, ExecutionChain, Rollup, RowPolicy, TimeSeries
from ledger.ddl.operations import RENDERERS
from ledger.ddl.rendering import rendering_of
from ledger.ddl.search_path import trusted
from ledger.ddl.shapes import shape_of
from ledger.ddl.storage import recorded
from ledger.ddl.warnings import warnings
from ledger.errors import PermissionMissing, SchemaNotReady, translate
from ledger.models.base import SCHEMA, Base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Table

    from ledger.ddl.objects import DatabaseObject


def differences(connection: Connection) -> list[Difference]:
    """Every difference between the database and the declarations, tables first.

    Nothing is changed: what is wanted is made as temporary objects and rolled back.
    """
    with trusted(connection):
        return [
            *_of_tables(connection),
            *_of_objects(connection),
            *_strangers(connection),
            *warnings(connection),
        ]


def problems_of(connection: Connection, target: DatabaseObject) -> list[str]:
    """What does not hold of one declared object."""
    if (found := recorded(connection)) is None:
        raise SchemaNotReady
    storage, encoding = found
    # A body is compared whether or not what it names is still there: that is its own problem.
    connection.execute(text("SET LOCAL check_function_bodies = off"))
    problems: list[str] = []
    rendering = rendering_of(connection, encoding)
    for fact in RENDERERS[storage].facts(target, rendering):
        try:
            with connection.begin_nested() as savepoint:
                problems += fact.problems(connection)
                savepoint.rollback()
        except DBAPIError as error:
            problems.append(_not_comparable(error))
    return problems


def _not_comparable(error: DBAPIError) -> str:
    """What is wanted cannot even be made for comparison: who asks may not, or something is gone."""
    said = str(error.orig).splitlines()[0]
    if isinstance(translate(error), PermissionMissing):
        return f"cannot be compared by this role; check as the ledger's owner: {said}"
    return f"cannot be compared, something it needs is missing or was changed: {said}"


def _of_objects(connection: Connection) -> Iterator[Difference]:
    for target in DECLARED:
        for problem in problems_of(connection, target):
            yield Difference(object=target.name, problem=problem)


def _of_tables(connection: Connection) -> Iterator[Difference]:
    with_policies = {target.name for target in DECLARED if isinstance(target, RowPolicy)}
    for table in Base.metadata.sorted_tables:
        found = shape_of(connection, f"{SCHEMA}.{table.name}")
        if not found:
            yield Difference(object=table.name, problem=f"table {table.name} is missing")
            continue
        try:
            with connection.begin_nested() as savepoint:
                wanted = _wanted(connection, table)
                savepoint.rollback()
        except DBAPIError as error:
            yield Difference(object=table.name, problem=_not_comparable(error))
            continue
        if table.name in with_policies:
            found = without_policies(found)
        for problem in differing(wanted, found, f"table {table.name}"):
            yield Difference(object=table.name, problem=problem)


def _wanted(connection: Connection, table: Table) -> dict[str, str]:
    """The table's shape, from a temporary one, which can only refer to temporary ones."""
    copies = MetaData()
    for needed in _referred(table):
        needed.to_metadata(copies, schema="pg_temp")
    for copy in copies.sorted_tables:
        connection.execute(CreateTable(copy))
    for index in copies.tables[f"pg_temp.{table.name}"].indexes:
        connection.execute(CreateIndex(index))
    return shape_of(connection, f"pg_temp.{table.name}")


def _referred(table: Table) -> set[Table]:
    """The table, and those that it refers to, however far."""
    found = {table}
    for key in table.foreign_keys:
        if key.column.table not in found:
            found |= _referred(key.column.table)
    return found


_KNOWN = {"alembic_version"}

_RELATIONS = text(
    "SELECT relname, relkind FROM pg_class WHERE relnamespace = to_regnamespace('ledger')"
    " AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition ORDER BY relname"
)

_TRIGGERS = text(
    "SELECT relname, tgname FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid"
    " WHERE relnamespace = to_regnamespace('ledger') AND NOT tgisinternal AND NOT relispartition"
    " ORDER BY 1, 2"
)
_OF_TIMESCALE = "ts_insert_blocker"
_OWNERS = text(
    "SELECT name, pg_get_userbyid(owner), pg_get_userbyid(ledgers.relowner) FROM ("
    "SELECT relname AS name, relowner AS owner FROM pg_class"
    " WHERE relnamespace = to_regnamespace('ledger')"
    " UNION ALL SELECT proname, proowner FROM pg_proc"
    " WHERE pronamespace = to_regnamespace('ledger')) AS every, pg_class ledgers"
    " WHERE ledgers.oid = to_regclass('ledger.installation') AND owner <> ledgers.relowner"
    " ORDER BY 1"
)
_CHILDREN = text(
    "SELECT parent.relname, inhrelid::regclass::text FROM pg_inherits"
    " JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid"
    " WHERE parent.relnamespace = to_regnamespace('ledger') AND parent.relkind = 'r'"
    " AND child.relnamespace IS DISTINCT FROM to_regnamespace('_timescaledb_internal')"
    " ORDER BY 1, 2"
)
_NOT_ENFORCED = text(
    "SELECT DISTINCT relname, conname FROM pg_trigger"
    " JOIN pg_constraint c ON c.oid = tgconstraint JOIN pg_class t ON t.oid = conrelid"
    " WHERE connamespace = to_regnamespace('ledger') AND contype = 'f' AND tgisinternal"
    " AND tgenabled IN ('D', 'R') ORDER BY 1, 2"
)


def _declared_triggers() -> set[tuple[str, str]]:
    """(table, name) of each."""
    found = {(sums.table, sums.trigger) for sums in RUNNING_SUMS}
    for target in DECLARED:
        if isinstance(target, TimeSeries):
            events = touch_log.triggers(target.name)
            found |= {(target.name, f"{target.name}_touched_by_{event}") for event in events}
        elif isinstance(target, AppendOnly):
            found |= {(target.name, name) for name in append_only.triggers(target)}
        elif isinstance(target, ExecutionChain):
            chained = execution_chain.triggers(target)
            found |= {(table, name) for name, (table, _) in chained.items()}
    return found


def _strangers(connection: Connection) -> Iterator[Difference]:
    rollups = [target for target in DECLARED if isinstance(target, Rollup)]
    declared = (
        _KNOWN
        | {target.name for target in DECLARED}
        | {t.name for t in Base.metadata.tables.values()}
    )
    declared |= {f"{rollup.name}_materialized" for rollup in rollups}
    for sums in RUNNING_SUMS:
        declared |= set(running_sums.table_names(sums))
    declared |= {f"{t.name}_touched" for t in DECLARED if isinstance(t, TimeSeries)}
    for name, kind in connection.execute(_RELATIONS):
        if name.startswith("llm_requests_p") and kind == "r":
            yield Difference(
                object=name,
                problem="a day that was detached and not yet rolled up for the last time;"
                " `ledger maintain` finishes it",
                is_warning=True,
            )
        elif name not in declared:
            yield Difference(object=name, problem="nobody declared this relation")
    for table, name in connection.execute(_NOT_ENFORCED):
        yield Difference(
            object=table,
            problem=f"the foreign key {name} is not enforced, as its triggers are disabled",
        )
    expected = _declared_triggers()
    for table, trigger in connection.execute(_TRIGGERS):
        if trigger != _OF_TIMESCALE and (table, trigger) not in expected:
            yield Difference(object=table, problem=f"nobody declared the trigger {trigger}")
    for name, owner, ledgers in connection.execute(_OWNERS):
        yield Difference(
            object=name, problem=f"it is owned by {owner}, and the ledger by {ledgers}"
        )
    for table, child in connection.execute(_CHILDREN):
        yield Difference(
            object=table, problem=f"{child} inherits from it, and its rows are shown with its own"
        )
