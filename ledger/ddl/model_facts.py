"""That the table of each model is there as the model declares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import MetaData, Table
from sqlalchemy.dialects import postgresql

from ledger.ddl.declared import DECLARED
from ledger.ddl.facts import Compared, Fact, table_problems
from ledger.ddl.objects import RowPolicy
from ledger.ddl.shapes import made
from ledger.models.base import Base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Dialect

_AS_IT_IS: Final[Dialect] = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
"""Which doubles no %."""


def model_facts() -> Iterator[tuple[str, Fact]]:
    """By the names of tables, those that others refer to first."""
    with_policies = {target.name for target in DECLARED if isinstance(target, RowPolicy)}
    copies = MetaData()
    for table in Base.metadata.tables.values():
        table.to_metadata(copies, schema="pg_temp")
    for copy in copies.sorted_tables:
        yield copy.name, _ModelIs(copy=copy, has_policies=copy.name in with_policies)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelIs(Fact):
    """The table is there with the columns, constraints and indexes of its model."""

    copy: Table
    """Among copies that refer to each other, as temporary tables can only refer to such."""
    has_policies: bool

    @property
    def about(self) -> str:
        return self.copy.name

    def making(self, _: Connection, /) -> Iterator[tuple[str, str]]:
        """The table, after those that it refers to."""
        for table in (*_referred(self.copy), self.copy):
            for element in made(table):
                yield table.name, str(element.compile(dialect=_AS_IT_IS))

    def problems(self, compared: Compared) -> Iterator[str]:
        yield from table_problems(compared, self.about, has_policies=self.has_policies)


def _referred(copy: Table) -> Iterator[Table]:
    """Each after those that it refers to itself."""
    for key in copy.foreign_keys:
        if (table := key.column.table) is not copy:
            yield from _referred(table)
            yield table
