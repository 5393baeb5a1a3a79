"""What can be seen to hold in a database that has an object, asked in the server's own words.

What is wanted is made as temporary objects, and described by the same catalogue functions as
what is there, so that no SQL has to be parsed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.ddl.routines import acts_as_owner, create_routine
from ledger.ddl.steps import literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy import Connection

    from ledger.ddl.described import Described
    from ledger.ddl.objects import Routine
    from ledger.ddl.shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What facts are told by."""

    connection: Connection
    there: Described
    """In the ledger's schema."""
    wanted: Described
    """The temporary objects."""
    answers: Mapping[str, bool | None]
    """By the query."""


class Fact(ABC):
    """Something that holds, or about which there is a problem to report."""

    __slots__ = ()

    @property
    def about(self) -> str:
        """The relation or routine of the ledger whose description it is told by."""
        return ""

    def making(self, _: Connection, /) -> Iterable[tuple[str, str]]:
        """Temporary objects as they are wanted: each one's name, and a statement that makes it.

        Those of all facts stand beside each other; a statement that several have is run once.
        """
        return ()

    def asking(self) -> Iterable[str]:
        """Queries of one boolean that it is told by."""
        return ()

    @abstractmethod
    def problems(self, compared: Compared) -> Iterator[str]:
        """In a person's words, what does not hold; nothing where it does."""


def _temporary(sql: str, name: str, other: str) -> str:
    """What makes the same of, or on, a temporary object by the other name."""
    return sql.replace(f"ledger.{name}", f"pg_temp.{other}", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutineIs(Fact):
    """The routine is there, and is one of the accepted texts."""

    accepted: tuple[Routine, ...]

    @property
    def about(self) -> str:
        return self.accepted[0].name

    def making(self, _: Connection, /) -> Iterator[tuple[str, str]]:
        for name, routine in self._accepted().items():
            yield name, _temporary(create_routine(routine).sql, routine.name, name)

    def problems(self, compared: Compared) -> Iterator[str]:
        found = compared.there.routines.get(self.about, ())
        wanted = [words for name in self._accepted() for words in compared.wanted.routines[name]]
        if not found:
            yield f"routine {self.about} is missing"
        elif len(found) > 1:
            yield f"routine {self.about} is there {len(found)} times, with different arguments"
        elif found[0] not in wanted:
            yield f"routine {self.about} was changed"

    def _accepted(self) -> dict[str, Routine]:
        return {f"{each.name}_{place}": each for place, each in enumerate(self.accepted)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewIs(Fact):
    """The view is there with this query, and with security_barrier where it must have it."""

    name: str
    query: str
    is_barrier: bool

    @property
    def about(self) -> str:
        return self.name

    def making(self, _: Connection, /) -> Iterator[tuple[str, str]]:
        yield making_view(self.name, self.query)

    def problems(self, compared: Compared) -> Iterator[str]:
        if (found := compared.there.views.get(self.name)) is None:
            yield f"view {self.name} is missing"
            return
        query, options = found
        if query != view_text(compared, self.name):
            yield f"view {self.name} was changed"
        if self.is_barrier and "security_barrier" not in options:
            yield f"view {self.name} has lost security_barrier"
        if "security_invoker" in options:
            yield f"view {self.name} reads with its reader's rights (security_invoker)"


def making_view(name: str, query: str) -> tuple[str, str]:
    """The name of a view of that query, and the statement that makes it."""
    wanted = f"wanted_{name}"
    return wanted, f"CREATE TEMPORARY VIEW {wanted} AS {query}"


def view_text(compared: Compared, name: str) -> str:
    """The query of the wanted view as the server writes it."""
    query, _ = compared.wanted.views[f"wanted_{name}"]
    return query


@dataclass(frozen=True, slots=True, kw_only=True)
class TableIs(Fact):
    """The table is there with the columns, constraints and indexes these statements make."""

    name: str
    statements: tuple[str, ...]
    has_policies: bool = False
    """Whether row level security is somebody else's to look at."""

    @property
    def about(self) -> str:
        return self.name

    def making(self, _: Connection, /) -> Iterator[tuple[str, str]]:
        for statement in self.statements:
            yield self.name, _temporary(statement, self.name, self.name)

    def problems(self, compared: Compared) -> Iterator[str]:
        if (found := compared.there.shapes.get(self.name)) is None:
            yield f"table {self.name} is missing"
            return
        if self.has_policies:
            found = without_policies(found)
        yield from differing(compared.wanted.shapes[self.name], found, f"table {self.name}")


def without_policies(shape: Shape) -> Shape:
    """A table's shape but for row level security."""
    return {
        part: words
        for part, words in shape.items()
        if part != "row level security" and not part.startswith("policy ")
    }


def differing(wanted: Shape, found: Shape, where: str) -> Iterator[str]:
    """Problems of a table: what is missing, surplus, or described otherwise."""
    for part in sorted(wanted.keys() | found.keys()):
        if part not in found:
            yield f"{where}: {part} is missing; it should be {wanted[part]}"
        elif part not in wanted:
            yield f"{where}: {part} is not declared: {found[part]}"
        elif wanted[part] != found[part]:
            yield f"{where}: {part} is {found[part]}; it should be {wanted[part]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerIs(Fact):
    """The trigger is there as the statement makes it, and fires as it should."""

    table: str
    name: str
    statement: str
    enabled: str

    @property
    def about(self) -> str:
        return self.table

    def making(self, _: Connection, /) -> Iterator[tuple[str, str]]:
        twin = self._twin
        yield twin, f"CREATE TEMPORARY TABLE {twin} (LIKE ledger.{self.table})"
        yield twin, _temporary(self.statement, self.table, twin)

    def problems(self, compared: Compared) -> Iterator[str]:
        if (found := compared.there.triggers.get((self.table, self.name))) is None:
            yield f"trigger {self.name} on {self.table} is missing"
            return
        fires, words = found
        if fires != self.enabled:
            is_, wanted = _STATES[fires], _STATES[self.enabled]
            yield f"trigger {self.name} on {self.table} is {is_}, not {wanted}"
        elif words != compared.wanted.triggers[self._twin, self.name][1]:
            yield f"trigger {self.name} on {self.table} was changed: {words}"

    @property
    def _twin(self) -> str:
        """Another table than the wanted one, on which triggers of several facts may be."""
        return f"triggered_{self.table}"


_STATES = {"D": "disabled", "O": "on origin only", "R": "on replicas only", "A": "always"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds(Fact):
    """A query of one boolean is true; NULL, no row and false are the problem."""

    query: str
    otherwise: str

    def asking(self) -> Iterator[str]:
        yield self.query

    def problems(self, compared: Compared) -> Iterator[str]:
        if not compared.answers[self.query]:
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
