"""SQL on its way to the server, online or as a script for psql."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One statement; ``is_generator`` where its rows are the statements to run."""

    sql: str
    runs_outside_transaction: bool = False
    is_generator: bool = False
    is_patient: bool = False
    """It waits for other transactions and meanwhile stops nobody: no lock_timeout applies."""


AS_IT_IS: Final = {"no_parameters": True}
"""Execution options of SQL that goes to the driver, whichever, with its % and : untouched."""


def run(context: MigrationContext, steps: Sequence[Step]) -> None:
    """Run the steps where the context stands, or write them to its script."""
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
        result = connection.exec_driver_sql(step.sql, execution_options=AS_IT_IS)
        if not step.is_generator:
            continue
        for (statement,) in result.all():
            with _patience(connection) if step.is_patient else nullcontext():
                connection.exec_driver_sql(statement, execution_options=AS_IT_IS)


@contextmanager
def _patience(connection: Connection) -> Iterator[None]:
    """Without lock_timeout, which would cancel a concurrent build that merely waits."""
    before = connection.scalar(text("SELECT current_setting('lock_timeout')"))
    change = text("SELECT set_config('lock_timeout', :value, false)")
    connection.execute(change, {"value": "0"})
    try:
        yield
    finally:
        connection.execute(change, {"value": before})


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


def seconds(value: timedelta) -> int:
    """Whole seconds of a duration."""
    return int(value.total_seconds())


def block(body: str) -> str:
    """An anonymous PL/pgSQL block."""
    return f"DO $block$\n{body}\n$block$"
