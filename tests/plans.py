"""What PostgreSQL does to answer a statement, read from its plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from ledger.engine import PLAN_TRANSACTION
from tests.sent import Sent


@dataclass(frozen=True, slots=True)
class Plan:
    """One executed plan, as EXPLAIN (ANALYZE, FORMAT JSON) tells it."""

    root: dict[str, Any]

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Every node that was executed."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            if node["Actual Loops"]:
                yield node
                waiting += node.get("Plans", [])

    def __str__(self) -> str:
        """What a failed test has to show of it: each node, what it reads, what that cost."""
        told = ("Node Type", "Relation Name", "Index Name", "Total Cost", "Actual Rows")
        return "\n".join(
            ", ".join(str(node[name]) for name in told if name in node) for node in self.nodes()
        )

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes() if "Index Name" in node}

    @property
    def read_in_full(self) -> set[str]:
        """Tables of more than a page or two of which every row was looked at."""
        return {
            node["Relation Name"]
            for node in self.nodes()
            if node["Node Type"].endswith("Seq Scan")
            and node["Actual Rows"] + node.get("Rows Removed by Filter", 0) > 100
        }

    @property
    def thrown_away(self) -> int:
        """Rows that were looked at for nothing."""
        return sum(node.get("Rows Removed by Filter", 0) for node in self.nodes())

    @property
    def read(self) -> set[str]:
        """Tables of which anything was looked at."""
        return {node["Relation Name"] for node in self.nodes() if "Relation Name" in node}


def explained(connection: psycopg.Connection[Any], statement: str, *parameters: object) -> Plan:
    """The plan by which the statement was answered."""
    found = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}".encode(), parameters)
    return Plan(found.fetchall()[0][0][0]["Plan"])


def explained_read(connection: psycopg.Connection[Any], sent: Sent) -> Plan:
    """The plan of a read, on a connection that is set up as the repositories' are."""
    connection.execute(PLAN_TRANSACTION.replace(b"true", b"false"))
    found = connection.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + sent.statement, sent.parameters)
    return Plan(found.fetchall()[0][0][0]["Plan"])
