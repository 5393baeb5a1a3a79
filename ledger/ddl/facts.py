"""What can be seen to hold in a database that has an object, asked in the server's own words.

What is wanted is made as temporary objects in a savepoint that is rolled back, and described
by the same catalogue functions as what is there, so that no SQL has to be parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import text

from ledger.ddl.routines import acts_as_owner, create_routine
from ledger.ddl.shapes import shape_of
from ledger.ddl.steps import AS_IT_IS, literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from ledger.ddl.objects import Routine

_PLACE_OF_TRIGGER = re.compile(r" ON (\w+\.)?\w+ ")
_PLACE_OF_ROUTINE = re.compile(r"\A(CREATE OR REPLACE \w+ )\w+\.")


class Fact(Protocol):
    """Something that holds, or about which there is a problem to report."""

    def problems(self, connection: Connection) -> Iterator[str]:
        """In a person's words, what does not hold; nothing where it does."""


def _temporary(sql: str, name: str, other: str | None = None) -> str:
    """What makes the same of, or on, a temporary object by this name, or by another."""
    return sql.replace(f"ledger.{name}", f"pg_temp.{other or name}", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutineIs:
    """The routine is there, and is one of the accepted texts."""

    accepted: tuple[Routine, ...]

    def problems(self, connection: Connection) -> Iterator[str]:
        name = self.accepted[0].name
        rows = connection.execute(_ROUTINE, {"name": name, "schema": "ledger"}).scalars().all()
        if not rows:
            yield f"routine {name} is missing"
            return
        wanted = [self._described(connection, routine) for routine in self.accepted]
        if len(rows) > 1:
            yield f"routine {name} is there {len(rows)} times, with different arguments"
        elif _without_place(rows[0]) not in wanted:
            yield f"routine {name} was changed"

    @staticmethod
    def _described(connection: Connection, routine: Routine) -> str:
        sql = _temporary(create_routine(routine).sql, routine.name)
        connection.exec_driver_sql(sql, execution_options=AS_IT_IS)
        described = connection.execute(_ROUTINE, {"name": routine.name, "schema": None})
        return _without_place(described.scalars().one())


def _without_place(routine: str) -> str:
    """The routine's own schema alone: one that its body names is part of what it does."""
    return _PLACE_OF_ROUTINE.sub(r"\1", routine)


_ROUTINE = text(
    "SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE proname = :name AND pronamespace ="
    " coalesce(to_regnamespace(cast(:schema AS text)), pg_my_temp_schema())::oid"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewIs:
    """The view is there with this query, and with security_barrier where it must have it."""

    name: str
    query: str
    is_barrier: bool

    def problems(self, connection: Connection) -> Iterator[str]:
        row = connection.execute(
            text(
                "SELECT pg_get_viewdef(oid), ARRAY(SELECT option_name::text"
                " FROM pg_options_to_table(reloptions) WHERE option_value::boolean)"
                " FROM pg_class WHERE oid = to_regclass(:name) AND relkind = 'v'"
            ),
            {"name": f"ledger.{self.name}"},
        ).first()
        if row is None:
            yield f"view {self.name} is missing"
            return
        if row[0] != view_text(connection, self.query):
            yield f"view {self.name} was changed"
        if self.is_barrier and "security_barrier" not in row[1]:
            yield f"view {self.name} has lost security_barrier"
        if "security_invoker" in row[1]:
            yield f"view {self.name} reads with its reader's rights (security_invoker)"


def view_text(connection: Connection, query: str) -> str:
    """The query as the server writes it."""
    connection.exec_driver_sql(
        f"CREATE OR REPLACE TEMPORARY VIEW wanted_view AS {query}", execution_options=AS_IT_IS
    )
    described = connection.scalar(text("SELECT pg_get_viewdef('pg_temp.wanted_view'::regclass)"))
    connection.exec_driver_sql("DROP VIEW pg_temp.wanted_view")
    return str(described)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableIs:
    """The table is there with the columns, constraints and indexes these statements make."""

    name: str
    statements: tuple[str, ...]
    has_policies: bool = False
    """Whether row level security is somebody else's to look at."""

    def problems(self, connection: Connection) -> Iterator[str]:
        for statement in self.statements:
            connection.exec_driver_sql(_temporary(statement, self.name), execution_options=AS_IT_IS)
        wanted = shape_of(connection, f"pg_temp.{self.name}")
        found = shape_of(connection, f"ledger.{self.name}")
        if not found:
            yield f"table {self.name} is missing"
            return
        yield from differing(
            wanted, without_policies(found) if self.has_policies else found, f"table {self.name}"
        )


def without_policies(shape: dict[str, str]) -> dict[str, str]:
    """A table's shape but for row level security."""
    return {
        part: words
        for part, words in shape.items()
        if part != "row level security" and not part.startswith("policy ")
    }


def differing(wanted: dict[str, str], found: dict[str, str], where: str) -> Iterator[str]:
    """Problems of a table: what is missing, surplus, or described otherwise."""
    for part in sorted(wanted.keys() | found.keys()):
        if part not in found:
            yield f"{where}: {part} is missing; it should be {wanted[part]}"
        elif part not in wanted:
            yield f"{where}: {part} is not declared: {found[part]}"
        elif wanted[part] != found[part]:
            yield f"{where}: {part} is {found[part]}; it should be {wanted[part]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerIs:
    """The trigger is there as the statement makes it, and fires as it should."""

    table: str
    name: str
    statement: str
    enabled: str

    def problems(self, connection: Connection) -> Iterator[str]:
        row = self._described(connection, f"ledger.{self.table}")
        if row is None:
            yield f"trigger {self.name} on {self.table} is missing"
        elif row[0] != self.enabled:
            states = {
                "D": "disabled",
                "O": "on origin only",
                "R": "on replicas only",
                "A": "always",
            }
            found, wanted = states[row[0]], states[self.enabled]
            yield f"trigger {self.name} on {self.table} is {found}, not {wanted}"
            return
        twin = f"triggered_{self.table}"
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {twin} (LIKE ledger.{self.table})"
        )
        connection.exec_driver_sql(_temporary(self.statement, self.table, twin))
        wanted_trigger = self._described(connection, f"pg_temp.{twin}")
        if row is not None and wanted_trigger is not None and row[1] != wanted_trigger[1]:
            yield f"trigger {self.name} on {self.table} was changed: {row[1]}"

    def _described(self, connection: Connection, table: str) -> tuple[str, str] | None:
        """When it fires, and what it is, wherever its table lies."""
        row = connection.execute(
            text(
                "SELECT tgenabled::text, pg_get_triggerdef(oid) FROM pg_trigger"
                " WHERE tgrelid = to_regclass(:table) AND tgname = :name"
            ),
            {"table": table, "name": self.name},
        ).first()
        return None if row is None else (row[0], _PLACE_OF_TRIGGER.sub(" ON table ", row[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """A query of one boolean is true; NULL, no row and false are the problem."""

    query: str
    otherwise: str

    def problems(self, connection: Connection) -> Iterator[str]:
        if not connection.exec_driver_sql(self.query, execution_options=AS_IT_IS).scalar():
            yield self.otherwise


def routine_facts(routine: Routine) -> list[Fact]:
    """The routine is there as it should be, and not everybody's where it acts as the owner."""
    is_there = RoutineIs(accepted=(routine,))
    if not acts_as_owner(routine):
        return [is_there]
    return [
        is_there,
        Holds(
            query="SELECT NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace ="
            f" to_regnamespace('ledger') AND proname = {literal(routine.name)}"
            " AND has_function_privilege('public', oid, 'EXECUTE'))",
            otherwise=f"routine {routine.name} acts as the ledger's owner, and PUBLIC may execute"
            " it; revoke that",
        ),
    ]
