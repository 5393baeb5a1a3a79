"""SQL on its way to the server, online or as a script for psql."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.runtime.migration import MigrationContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One statement; ``is_generator`` where its rows are the statements to run."""

    sql: str
    runs_outside_transaction: bool = False
    is_generator: bool = False


def run(context: MigrationContext, steps: Sequence[Step]) -> None:
    """Run the steps where the context stands, or write them to its script.

    The text goes to the driver as it is: SQLAlchemy's `text` would read ``h[1:2]`` as a bind.
    """
    for outside, group in groupby(steps, key=lambda step: step.runs_outside_transaction):
        if outside:
            with context.autocommit_block():
                _run_all(context, list(group))
        else:
            _run_all(context, list(group))


def _run_all(context: MigrationContext, steps: Sequence[Step]) -> None:
    for step in steps:
        if context.as_sql:
            context.impl.static_output(step.sql + (" \\gexec" if step.is_generator else ";"))
            continue
        connection = context.connection
        assert connection is not None, "an online migration has a connection"
        result = connection.exec_driver_sql(_without_parameters(step.sql))
        if step.is_generator:
            for (statement,) in result.all():
                connection.exec_driver_sql(_without_parameters(statement))


def _without_parameters(sql: str) -> str:
    """SQLAlchemy hands psycopg an empty list of parameters, so every % counts as one's mark."""
    return sql.replace("%", "%%")


def literal(value: str) -> str:
    """The text as an SQL string literal (standard_conforming_strings is on)."""
    return "'" + value.replace("'", "''") + "'"


def interval(value: timedelta) -> str:
    """The duration as an SQL interval of days and seconds."""
    return (
        f"INTERVAL '{value.days} days {value.seconds} seconds'"
        if value.seconds
        else (f"INTERVAL '{value.days} days'")
    )


def block(body: str) -> str:
    """An anonymous PL/pgSQL block."""
    return f"DO $block$\n{body}\n$block$"
