"""What a downgrade would lose, asked before its first revision is undone.

Each revision is undone in a transaction of its own, so a refusal half-way would leave the
database between two revisions. A dry run over all of them collects what each would ask.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from ledger.ddl.aggregates import EPOCH
from ledger.ddl.steps import Step, block, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.ddl.objects import Rollup

_FORESEEN = "ledger_foreseen_losses"


def refuse_or_foresee(context: MigrationContext, checks: Sequence[Step]) -> None:
    """Run the checks that refuse a loss; in a dry run, only collect them."""
    if (foreseen := context.opts.get(_FORESEEN)) is not None:
        foreseen.extend(checks)
    else:
        run(context, checks)


def refuse_losses(context: MigrationContext) -> None:
    """Run every check of a downgrade that the context is about to carry out.

    Other commands pass: only a downgrade's function is asked for its steps, as an upgrade's
    has nothing to lose and autogenerate's would compare. Raises the server's error with
    SQLSTATE LG002 where something would be lost that was not allowed.
    """
    steps_of = context.opts.get("fn")
    if getattr(steps_of, "__name__", "") != "downgrade":
        return
    assert callable(steps_of), "alembic names its commands' functions"
    checks: list[Step] = []
    ours = {name: value for name, value in context.opts.items() if name.startswith("ledger_")}
    dry_run = MigrationContext.configure(
        dialect_name="postgresql",
        opts={**ours, "as_sql": True, "output_buffer": StringIO(), _FORESEEN: checks},
    )
    steps = steps_of(context.get_current_heads(), context)
    with Operations.context(dry_run):
        for step in steps:
            step.migration_fn()
    run(context, checks)


def refuse_loss(table: str, *, allowed: bool, rows: str = "", what: str = "rows") -> list[Step]:
    """Refuse to go on while the table holds rows, unless that loss was allowed by name."""
    if allowed:
        return []
    hint = f"ledger db downgrade --allow-data-loss {table} (alembic -x allow-data-loss={table})"
    return [
        Step(
            sql=block(
                f"""BEGIN
  IF EXISTS (SELECT FROM ledger.{table} {rows}) THEN
    RAISE EXCEPTION USING ERRCODE = 'LG002', MESSAGE =
      'ledger.{table} holds {what} that this downgrade would lose; nothing was changed.'
      ' To lose them: {hint}';
  END IF;
END"""
            )
        )
    ]


def refuse_rollup_loss(rollup: Rollup, *, allowed: bool) -> list[Step]:
    """Refuse to drop a rollup that holds buckets older than the rows it could be made of."""
    oldest = "(SELECT coalesce(min(\"timestamp\"), 'infinity') FROM ledger.llm_requests)"
    # Not date_trunc: an hour of the session's time zone may begin at half past.
    oldest_hour = f"date_bin('1 hour', {oldest}, {EPOCH})"
    return refuse_loss(
        rollup.name,
        allowed=allowed,
        rows=f"WHERE bucket < {oldest_hour}",
        what="history older than the raw rows",
    )
