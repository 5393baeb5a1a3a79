"""Tables whose rows are added and never changed: what refuses the rest, and how that is seen.

Triggers, as they hold for the owner and for superusers too; ENABLE ALWAYS, as a session that
replays for a replica fires no others. A DDL of the owner's undoes them, which the comparator
reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.ddl.facts import Fact, TriggerIs, routine_facts
from ledger.ddl.objects import Routine
from ledger.ddl.routines import make_routine
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

_KEEP_PARENT: Final = Routine(
    name="keep_parent",
    arguments="",
    definition=f"""RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
{FIXED} AS $function$
DECLARE
  is_referred_to boolean;
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.id = OLD.id THEN
    RETURN NULL;
  END IF;
  EXECUTE format('SELECT EXISTS (SELECT FROM ledger.%I WHERE %I = $1)', TG_ARGV[0], TG_ARGV[1])
  INTO is_referred_to USING OLD.id;
  IF is_referred_to THEN
    RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
      '%s of ledger.%I is refused: rows of ledger.%I refer to %s, and they are never changed',
      TG_OP, TG_TABLE_NAME, TG_ARGV[0], OLD.id);
  END IF;
  RETURN NULL;
END
$function$""",
)
"""Refuses what a foreign key does, also where a session replays for a replica and no key is
enforced; it acts as the owner, from whom row level security hides no row."""

ROUTINES: Final = (_REFUSE_CHANGE, _REFUSE_NO_CHANGE, _KEEP_PARENT)

_ALWAYS = "A"


def triggers(target: AppendOnly) -> dict[str, tuple[str, str]]:
    """The table and the statement of each trigger, by name.

    By statement, so that a change of no row is refused like any other; by row, as that is all
    that logical replication fires.
    """
    made = {ending: (target.name, does) for ending, does in _refusing(target).items()}
    for column, parent in target.parents:
        # After the keys, where they are enforced: their refusal is the one that everybody knows.
        does = (
            f"AFTER DELETE OR UPDATE OF id ON ledger.{parent} FOR EACH ROW"
            f" EXECUTE FUNCTION ledger.{_KEEP_PARENT.name}('{target.name}', '{column}')"
        )
        made[f"keeps_{parent}"] = (parent, does)
    return {
        (name := f"{target.name}_{ending}"): (table, f"CREATE OR REPLACE TRIGGER {name} {does}")
        for ending, (table, does) in made.items()
    }


def _refusing(target: AppendOnly) -> dict[str, str]:
    """What each trigger of the table itself does, by the end of its name."""
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
    return {
        "keeps_rows": f"BEFORE {refused} ON {table} FOR EACH ROW {refuse}",
        "refuses_change": f"BEFORE {refused} ON {table} FOR EACH STATEMENT {refuse}",
        "refuses_truncate": f"BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refuse}",
        **guarding,
    }


def _functions(target: AppendOnly) -> list[Routine]:
    used = {_REFUSE_NO_CHANGE: target.guard is not None, _KEEP_PARENT: bool(target.parents)}
    return [_REFUSE_CHANGE, *(function for function, is_used in used.items() if is_used)]


def create(target: AppendOnly) -> list[Step]:
    """Have every change of the table's rows refused."""
    steps = [step for function in _functions(target) for step in make_routine(function)]
    for name, (table, statement) in triggers(target).items():
        steps += [
            Step(sql=statement),
            Step(sql=f"ALTER TABLE ledger.{table} ENABLE ALWAYS TRIGGER {name}"),
        ]
    return steps


def drop(target: AppendOnly) -> list[Step]:
    """Let the rows be changed again; the last table takes the functions along."""
    return [
        *(
            Step(sql=f"DROP TRIGGER IF EXISTS {name} ON ledger.{table}")
            for name, (table, _) in triggers(target).items()
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
        *(fact for function in _functions(target) for fact in routine_facts(function)),
        *(
            TriggerIs(table=table, name=name, statement=statement, enabled=_ALWAYS)
            for name, (table, statement) in triggers(target).items()
        ),
    ]
