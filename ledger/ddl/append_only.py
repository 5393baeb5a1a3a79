"""Tables whose rows are added and never changed: what refuses the rest, and how that is seen.

Triggers, as they hold for the owner and for superusers too; ENABLE ALWAYS, as a session that
replays for a replica fires no others. A DDL of the owner's undoes them, which the comparator
reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
_REFUSE_NO_CHANGE = Routine(
    name="refuse_no_change",
    arguments="",
    definition=f"""RETURNS trigger LANGUAGE plpgsql {FIXED} AS $function$
BEGIN
  IF NOT EXISTS (SELECT FROM updated) THEN
    RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
      'UPDATE of ledger.%I is refused: its rows are added and never changed', TG_TABLE_NAME);
  END IF;
  RETURN NULL;
END
$function$""",
)
"""For tables that have a guard, who is asked about rows and not about none."""

ROUTINES: Final = (_REFUSE_CHANGE, _REFUSE_NO_CHANGE)

_ALWAYS = "A"


def triggers(target: AppendOnly) -> dict[str, str]:
    """The statements that make the triggers, by name.

    By statement, so that a change of no row is refused like any other; by row, as that is all
    that logical replication fires.
    """
    table, refused = f"ledger.{target.name}", "UPDATE OR DELETE"
    guarding: dict[str, str] = {}
    if target.guard is not None:
        refused = "DELETE"
        guarding = {
            "guards_rows": f"BEFORE UPDATE ON {table} FOR EACH ROW"
            f" EXECUTE FUNCTION ledger.{target.guard}()",
            "refuses_no_change": f"AFTER UPDATE ON {table} REFERENCING NEW TABLE AS updated"
            f" FOR EACH STATEMENT EXECUTE FUNCTION ledger.{_REFUSE_NO_CHANGE.name}()",
        }
    refuse = f"EXECUTE FUNCTION ledger.{_REFUSE_CHANGE.name}()"
    made = {
        "keeps_rows": f"BEFORE {refused} ON {table} FOR EACH ROW {refuse}",
        "refuses_change": f"BEFORE {refused} ON {table} FOR EACH STATEMENT {refuse}",
        "refuses_truncate": f"BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refuse}",
        **guarding,
    }
    return {
        f"{target.name}_{name}": f"CREATE OR REPLACE TRIGGER {target.name}_{name} {trigger}"
        for name, trigger in made.items()
    }


def _functions(target: AppendOnly) -> tuple[Routine, ...]:
    return (_REFUSE_CHANGE,) if target.guard is None else ROUTINES


def create(target: AppendOnly) -> list[Step]:
    """Have every change of the table's rows refused."""
    steps = [create_routine(function) for function in _functions(target)]
    for name, statement in triggers(target).items():
        steps += [
            Step(sql=statement),
            Step(sql=f"ALTER TABLE ledger.{target.name} ENABLE ALWAYS TRIGGER {name}"),
        ]
    return steps


def drop(target: AppendOnly) -> list[Step]:
    """Let the rows be changed again; the last table takes the functions along."""
    return [
        *(
            Step(sql=f"DROP TRIGGER IF EXISTS {name} ON ledger.{target.name}")
            for name in triggers(target)
        ),
        *(
            Step(
                sql=f"SELECT 'DROP FUNCTION ledger.{function.name}()' WHERE NOT EXISTS (SELECT FROM"
                f" pg_trigger WHERE tgfoid = to_regprocedure('ledger.{function.name}()'))",
                is_generator=True,
            )
            for function in _functions(target)
        ),
    ]


def facts(target: AppendOnly) -> list[Fact]:
    """Each trigger is there and fires always, and the functions refuse."""
    return [
        *(RoutineIs(accepted=(function,)) for function in _functions(target)),
        *(
            TriggerIs(table=target.name, name=name, statement=statement, enabled=_ALWAYS)
            for name, statement in triggers(target).items()
        ),
    ]
