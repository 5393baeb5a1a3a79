"""Triggers that fire ALWAYS, whoever asks and whatever he replays, and what they call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.ddl.facts import Fact, TriggerIs, routine_facts
from ledger.ddl.routines import make_routine
from ledger.ddl.steps import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ledger.ddl.objects import Routine

_ALWAYS: Final = "A"


def create(table: str, functions: Sequence[Routine], triggers: Mapping[str, str]) -> list[Step]:
    """Make the functions, and the table's triggers by the statement of each name."""
    steps = [step for function in functions for step in make_routine(function)]
    for name, statement in triggers.items():
        steps += [
            Step(sql=statement),
            Step(sql=f"ALTER TABLE ledger.{table} ENABLE ALWAYS TRIGGER {name}"),
        ]
    return steps


def drop(table: str, functions: Sequence[Routine], triggers: Mapping[str, str]) -> list[Step]:
    """Take the triggers away; the last table that calls a function takes it along."""
    return [
        *(Step(sql=f"DROP TRIGGER IF EXISTS {name} ON ledger.{table}") for name in triggers),
        *(
            Step(
                sql=f"SELECT 'DROP FUNCTION IF EXISTS ledger.{function.name}()' WHERE NOT EXISTS"
                f" (SELECT FROM pg_trigger"
                f" WHERE tgfoid = to_regprocedure('ledger.{function.name}()'))",
                is_generator=True,
            )
            for function in functions
        ),
    ]


def facts(table: str, functions: Sequence[Routine], triggers: Mapping[str, str]) -> list[Fact]:
    """Each trigger is there and fires always, and the functions are what they should be."""
    return [
        *(fact for function in functions for fact in routine_facts(function)),
        *(
            TriggerIs(table=table, name=name, statement=statement, enabled=_ALWAYS)
            for name, statement in triggers.items()
        ),
    ]
