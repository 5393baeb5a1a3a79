"""What can be seen to hold of TimescaleDB's own objects: continuous aggregates and chunks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from ledger.ddl.facts import Compared, Fact, making_view, view_text
from ledger.ddl.shapes import indexes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateIs(Fact):
    """The continuous aggregate is there with this query, and reads up to the latest row."""

    name: str
    query: str

    def making(self, _: Connection, /) -> Iterator[tuple[str, str]]:
        yield making_view(self.name, self.query)

    def problems(self, compared: Compared) -> Iterator[str]:
        row = compared.connection.execute(
            text(
                "SELECT view_definition, materialized_only FROM"
                " timescaledb_information.continuous_aggregates"
                " WHERE view_schema = 'ledger' AND view_name = :name"
            ),
            {"name": self.name},
        ).first()
        if row is None:
            yield f"continuous aggregate {self.name} is missing"
            return
        if _without_space(row[0]) != _without_space(view_text(compared, self.name)):
            yield f"continuous aggregate {self.name} was changed"
        if row[1]:
            yield f"continuous aggregate {self.name} has lost real-time aggregation"


def _without_space(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunksHaveIndexes(Fact):
    """Each chunk of the hypertable has each of its indexes, valid."""

    table: str

    def problems(self, compared: Compared) -> Iterator[str]:
        connection = compared.connection
        chunks = connection.execute(
            text(
                "SELECT format('%I.%I', chunk_schema, chunk_name)"
                " FROM timescaledb_information.chunks"
                " WHERE hypertable_schema = 'ledger' AND hypertable_name = :table"
            ),
            {"table": self.table},
        ).scalars()
        wanted = len(indexes_of(connection, f"ledger.{self.table}"))
        for chunk in chunks:
            if len(indexes_of(connection, chunk)) < wanted:
                yield f"chunk {chunk} of {self.table} lacks an index, or has an invalid one"
