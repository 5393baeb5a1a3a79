"""Where the database is not what is declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import MetaData, text
from sqlalchemy.exc import DBAPIError

from ledger.ddl.declared import DECLARED
from ledger.ddl.difference import NOT_BY_THIS_ROLE, Difference
from ledger.ddl.execution_hashing import CHAINED
from ledger.ddl.facts import RoutineIs, differing, without_policies
from ledger.ddl.latency_functions import aggregates
from ledger.ddl.objects import RowPolicy
from ledger.ddl.operations import RENDERERS
from ledger.ddl.rendering import rendering_of
from ledger.ddl.search_path import trusted
from ledger.ddl.shapes import make_table, shape_of
from ledger.ddl.storage import recorded
from ledger.ddl.strangers import strangers
from ledger.ddl.warnings import warnings
from ledger.errors import PermissionMissing, SchemaNotReady, translate
from ledger.models.base import SCHEMA, Base

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection, Table

    from ledger.ddl.facts import Fact
    from ledger.ddl.objects import DatabaseObject
    from ledger.ddl.rendering import Rendering
    from ledger.settings import Storage


def differences(connection: Connection) -> list[Difference]:
    """Every difference between the database and the declarations, tables first.

    Nothing is changed: what is wanted is made as temporary objects and rolled back.
    """
    with trusted(connection):
        # Or PostgreSQL writes definitions otherwise than they are declared.
        connection.execute(text("SET LOCAL quote_all_identifiers = off"))
        of_tables = list(_of_tables(connection))
        storage, rendering = _installed(connection)
        _check_no_bodies(connection)
        facts = [(target, _facts(target, storage, rendering)) for target in DECLARED]
        routines = {
            fact.accepted[0].name
            for _, each in facts
            for fact in each
            if isinstance(fact, RoutineIs)
        }
        return [
            *of_tables,
            *_of_objects(connection, facts),
            *strangers(connection, {*routines, *aggregates(rendering), CHAINED}),
            *warnings(connection),
        ]


def problems_of(connection: Connection, target: DatabaseObject) -> list[str]:
    """What does not hold of one declared object."""
    _check_no_bodies(connection)
    return _problems(connection, _facts(target, *_installed(connection)))


def _check_no_bodies(connection: Connection) -> None:
    """A body is compared whether or not what it names is still there: that is its own problem."""
    connection.execute(text("SET LOCAL check_function_bodies = off"))


def _problems(connection: Connection, facts: list[Fact]) -> list[str]:
    try:
        return _compared(connection, facts)
    except DBAPIError:
        return [problem for fact in facts for problem in _compared_alone(connection, fact)]


def _compared(connection: Connection, facts: list[Fact]) -> list[str]:
    with connection.begin_nested() as savepoint:
        problems = [problem for fact in facts for problem in fact.problems(connection)]
        savepoint.rollback()
    return problems


def _compared_alone(connection: Connection, fact: Fact) -> list[str]:
    """So that one fact that cannot be compared hides no other."""
    try:
        return _compared(connection, [fact])
    except DBAPIError as error:
        return [_not_comparable(error)]


def _installed(connection: Connection) -> tuple[Storage, Rendering]:
    if (found := recorded(connection)) is None:
        raise SchemaNotReady
    storage, encoding = found
    return storage, rendering_of(connection, encoding)


def _facts(target: DatabaseObject, storage: Storage, rendering: Rendering) -> list[Fact]:
    facts: list[Fact] = RENDERERS[storage].facts(target, rendering)
    return facts


def _not_comparable(error: DBAPIError) -> str:
    """What is wanted cannot even be made for comparison: who asks may not, or something is gone."""
    said = str(error.orig).splitlines()[0]
    if isinstance(translate(error), PermissionMissing):
        return f"{NOT_BY_THIS_ROLE}; check as the ledger's owner: {said}"
    return f"cannot be compared, something it needs is missing or was changed: {said}"


def _of_objects(
    connection: Connection, facts: list[tuple[DatabaseObject, list[Fact]]]
) -> Iterator[Difference]:
    for target, each in facts:
        for problem in _problems(connection, each):
            yield Difference(object=target.name, problem=problem)


def _of_tables(connection: Connection) -> Iterator[Difference]:
    with_policies = {target.name for target in DECLARED if isinstance(target, RowPolicy)}
    tables = Base.metadata.sorted_tables
    wanted = _wanted(connection, tables)
    for name in (table.name for table in tables):
        found = shape_of(connection, f"{SCHEMA}.{name}")
        shape = wanted[name]
        if not found:
            yield Difference(object=name, problem=f"table {name} is missing")
        elif isinstance(shape, DBAPIError):
            yield Difference(object=name, problem=_not_comparable(shape))
        else:
            if name in with_policies:
                found = without_policies(found)
            for problem in differing(shape, found, f"table {name}"):
                yield Difference(object=name, problem=problem)


def _wanted(
    connection: Connection, tables: Iterable[Table]
) -> dict[str, dict[str, str] | DBAPIError]:
    """Each table's shape, from a temporary one, or why that cannot be made.

    Those that it refers to come before it, as temporary tables can only refer to such.
    """
    copies = MetaData()
    for table in tables:
        table.to_metadata(copies, schema="pg_temp")
    wanted: dict[str, dict[str, str] | DBAPIError] = {}
    with connection.begin_nested() as all_of_them:
        for copy in copies.sorted_tables:
            try:
                with connection.begin_nested():
                    make_table(connection, copy)
                    wanted[copy.name] = shape_of(connection, f"pg_temp.{copy.name}")
            except DBAPIError as error:
                referred = (wanted.get(key.column.table.name) for key in copy.foreign_keys)
                of_those = (shape for shape in referred if isinstance(shape, DBAPIError))
                wanted[copy.name] = next(of_those, error)
        all_of_them.rollback()
    return wanted
