"""SQL functions and procedures: made, made again, dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.ddl.steps import Step

if TYPE_CHECKING:
    from ledger.ddl.objects import Routine


def create_routine(routine: Routine) -> Step:
    """Make the routine, or make it again as it should be."""
    kind = "FUNCTION" if "RETURNS" in routine.definition.split("AS ", 1)[0] else "PROCEDURE"
    return Step(
        sql=f"CREATE OR REPLACE {kind} ledger.{routine.name}({routine.arguments})"
        f" {routine.definition}"
    )


def make_routine(routine: Routine) -> list[Step]:
    """Make the routine, or make it again as it should be.

    PostgreSQL lets everybody execute a new routine; one that acts as the owner is only for
    roles that it was granted to.
    """
    steps = [create_routine(routine)]
    if acts_as_owner(routine):
        steps.append(Step(sql=f"REVOKE ALL ON ROUTINE ledger.{routine.name} FROM PUBLIC"))
    return steps


def acts_as_owner(routine: Routine) -> bool:
    """Whether it has the rights of the ledger's owner, whoever calls it."""
    return "SECURITY DEFINER" in routine.definition


def drop_routine(name: str) -> Step:
    """Drop the routine of that name; names are not overloaded within an installation."""
    return Step(sql=f"DROP ROUTINE IF EXISTS ledger.{name}")
