"""Tables whose rows are added and never changed: what refuses the rest, and how that is seen.

Triggers, as they hold for the owner and for superusers too; ENABLE ALWAYS, as a session that
replays for a replica fires no others. A DDL of the owner's undoes them, which the comparator
reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.ddl.facts import Fact, RoutineIs, TriggerIs
from ledger.ddl.objects import Routine
from ledger.ddl.routines import create_routine
from ledger.ddl.search_path import FIXED
from ledger.ddl.steps import Step

if TYPE_CHECKING:
    from ledger.ddl.objects import AppendOnly

_REFUSE_CHANGE = Routine(
    name="refuse_change",
    arguments="",
    definition=f"""RETURNS trigger LANGUAGE plpgsql {FIXED} AS $function$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
    '%s of ledger.%I is refused: its rows are added and never changed; a correction is a new row',
    TG_OP, TG_TABLE_NAME);
END
$function$""",
)
_ALWAYS = "A"


def triggers(target: AppendOnly) -> dict[str, str]:
    """The statements that make the triggers, by name.

    By statement, so that a change of no row is refused like any other; by row, as that is all
    that logical replication fires.
    """
    events = {
        f"{target.name}_keeps_rows": "BEFORE UPDATE OR DELETE ON ledger.{} FOR EACH ROW",
        f"{target.name}_refuses_change": "BEFORE UPDATE OR DELETE ON ledger.{} FOR EACH STATEMENT",
        f"{target.name}_refuses_truncate": "BEFORE TRUNCATE ON ledger.{} FOR EACH STATEMENT",
    }
    return {
        name: f"CREATE OR REPLACE TRIGGER {name} {when.format(target.name)}"
        f" EXECUTE FUNCTION ledger.{_REFUSE_CHANGE.name}()"
        for name, when in events.items()
    }


def create(target: AppendOnly) -> list[Step]:
    """Have every change of the table's rows refused."""
    steps = [create_routine(_REFUSE_CHANGE)]
    for name, statement in triggers(target).items():
        steps += [
            Step(sql=statement),
            Step(sql=f"ALTER TABLE ledger.{target.name} ENABLE ALWAYS TRIGGER {name}"),
        ]
    return steps


def drop(target: AppendOnly) -> list[Step]:
    """Let the rows be changed again; the last table takes the function along."""
    function = f"ledger.{_REFUSE_CHANGE.name}()"
    return [
        *(
            Step(sql=f"DROP TRIGGER IF EXISTS {name} ON ledger.{target.name}")
            for name in triggers(target)
        ),
        Step(
            sql=f"SELECT 'DROP FUNCTION {function}' WHERE NOT EXISTS (SELECT FROM pg_trigger"
            f" WHERE tgfoid = to_regprocedure('{function}'))",
            is_generator=True,
        ),
    ]


def facts(target: AppendOnly) -> list[Fact]:
    """Each trigger is there and fires always, and the function refuses."""
    return [
        RoutineIs(accepted=(_REFUSE_CHANGE,)),
        *(
            TriggerIs(table=target.name, name=name, statement=statement, enabled=_ALWAYS)
            for name, statement in triggers(target).items()
        ),
    ]
