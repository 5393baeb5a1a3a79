"""That the table of each model is there as the model declares it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import MetaData, Table
from sqlalchemy.dialects import postgresql

from ledger.ddl.declared import DECLARED
from ledger.ddl.facts import Fact, TableIs
from ledger.ddl.objects import RowPolicy
from ledger.ddl.shapes import made
from ledger.models.base import Base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Dialect

_AS_IT_IS: Final[Dialect] = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
"""Which doubles no %."""


def model_facts() -> Iterator[tuple[str, Fact]]:
    """By the names of tables, those that others refer to first.

    Each is made after those that it refers to, as temporary tables can only refer to such.
    """
    with_policies = {target.name for target in DECLARED if isinstance(target, RowPolicy)}
    copies = MetaData()
    for table in Base.metadata.tables.values():
        table.to_metadata(copies, schema="pg_temp")
    statements = {
        copy: tuple(str(element.compile(dialect=_AS_IT_IS)) for element in made(copy))
        for copy in copies.sorted_tables
    }
    for copy in statements:
        needed = (*_referred(copy), copy)
        fact = TableIs(
            name=copy.name,
            statements=tuple(statement for each in needed for statement in statements[each]),
            has_policies=copy.name in with_policies,
        )
        yield copy.name, fact


def _referred(copy: Table) -> Iterator[Table]:
    """Each after those that it refers to itself."""
    for key in copy.foreign_keys:
        if (table := key.column.table) is not copy:
            yield from _referred(table)
            yield table
