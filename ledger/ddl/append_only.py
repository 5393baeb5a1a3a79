"""Tables whose rows are added and never changed: what refuses the rest, and how that is seen.

Triggers, as they hold for the owner and for superusers too; ENABLE ALWAYS, as a session that
replays for a replica fires no others. A DDL of the owner's undoes them, which the comparator
reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.ddl import always_triggers
from ledger.ddl.objects import Routine
from ledger.ddl.search_path import FIXED

if TYPE_CHECKING:
    from ledger.ddl.facts import Fact
    from ledger.ddl.objects import AppendOnly
    from ledger.ddl.steps import Step

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
    return always_triggers.create(target.name, _functions(target), triggers(target))


def drop(target: AppendOnly) -> list[Step]:
    """Let the rows be changed again."""
    return always_triggers.drop(target.name, _functions(target), triggers(target))


def facts(target: AppendOnly) -> list[Fact]:
    """Every change is refused."""
    return always_triggers.facts(target.name, _functions(target), triggers(target))
