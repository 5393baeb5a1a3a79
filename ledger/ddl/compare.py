"""Where the database is not what is declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ledger.ddl.declared import DECLARED
from ledger.ddl.described import LEDGER, TEMPORARY, described
from ledger.ddl.difference import NOT_BY_THIS_ROLE, Difference
from ledger.ddl.execution_hashing import CHAINED
from ledger.ddl.facts import Compared, RoutineIs
from ledger.ddl.latency_functions import aggregates
from ledger.ddl.model_facts import model_facts
from ledger.ddl.operations import RENDERERS
from ledger.ddl.rendering import rendering_of
from ledger.ddl.search_path import trusted
from ledger.ddl.steps import AS_IT_IS, block
from ledger.ddl.storage import recorded
from ledger.ddl.strangers import strangers
from ledger.ddl.warnings import warnings
from ledger.errors import PermissionMissing, SchemaNotReady, translate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection

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
        storage, rendering = _installed(connection)
        of_objects = [
            (target.name, fact)
            for target in DECLARED
            for fact in _facts(target, storage, rendering)
        ]
        routines = {fact.about for _, fact in of_objects if isinstance(fact, RoutineIs)}
        return [
            *_differences(connection, [*model_facts(), *of_objects]),
            *strangers(connection, {*routines, *aggregates(rendering), CHAINED}),
            *warnings(connection),
        ]


def amiss(
    connection: Connection, targets: Iterable[DatabaseObject] = DECLARED
) -> list[DatabaseObject]:
    """The declared objects of which something does not hold."""
    storage, rendering = _installed(connection)
    facts = [(target, fact) for target in targets for fact in _facts(target, storage, rendering)]
    problems = _problems(connection, [fact for _, fact in facts])
    found = (target for (target, _), each in zip(facts, problems, strict=True) if each)
    return list(dict.fromkeys(found))


def _differences(connection: Connection, facts: Sequence[tuple[str, Fact]]) -> Iterator[Difference]:
    problems = _problems(connection, [fact for _, fact in facts])
    for (name, _), each in zip(facts, problems, strict=True):
        for problem in each:
            yield Difference(object=name, problem=problem)


def _problems(connection: Connection, facts: Sequence[Fact]) -> list[list[str]]:
    """Of each fact, compared all at once.

    Where that fails each half is compared alone, so that one that cannot be hides no other.
    """
    try:
        return _compared(connection, facts)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        if len(facts) == 1:
            return [[_not_comparable(error)]]
    middle = len(facts) // 2
    return _problems(connection, facts[:middle]) + _problems(connection, facts[middle:])


def _compared(connection: Connection, facts: Sequence[Fact]) -> list[list[str]]:
    with connection.begin_nested() as savepoint:
        # A body is compared whether or not what it names is still there: that is its own problem.
        connection.execute(text("SET LOCAL check_function_bodies = off"))
        making = [each for fact in facts for each in fact.making(connection)]
        _run(connection, dict.fromkeys(statement for _, statement in making))
        compared = Compared(
            connection=connection,
            there=described(connection, LEDGER, {fact.about for fact in facts}),
            wanted=described(connection, TEMPORARY, {name for name, _ in making}),
            answers=_answers(connection, [query for fact in facts for query in fact.asking()]),
        )
        problems = [list(fact.problems(compared)) for fact in facts]
        savepoint.rollback()
    return problems


def _run(connection: Connection, statements: Iterable[str]) -> None:
    """All of them in one, as the way to the server and back takes longer than most do there."""
    body = "".join(f"EXECUTE $wanted${each}$wanted$;\n" for each in statements)
    connection.exec_driver_sql(block(f"BEGIN\n{body}END"), execution_options=AS_IT_IS)


def _answers(connection: Connection, queries: Sequence[str]) -> dict[str, bool | None]:
    """What each query of one boolean says, NULL where it has no row."""
    if not queries:
        return {}
    asked = f"SELECT ARRAY[{', '.join(f'({query})' for query in queries)}]"
    answers = connection.exec_driver_sql(asked, execution_options=AS_IT_IS).scalar_one()
    return dict(zip(queries, answers, strict=True))


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
