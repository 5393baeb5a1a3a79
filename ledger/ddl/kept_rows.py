"""Rows that append-only tables refer to: what keeps them where no foreign key does.

A session that replays for a replica enforces no key, and a superuser may say that his does.
Triggers of the parents' own, so that to make them locks no table that is written all the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.ddl import always_triggers
from ledger.ddl.objects import Routine
from ledger.ddl.search_path import FIXED
from ledger.ddl.steps import literal

if TYPE_CHECKING:
    from ledger.ddl.facts import Fact
    from ledger.ddl.objects import KeptRows
    from ledger.ddl.steps import Step

KEEP: Final = Routine(
    name="keep_rows",
    arguments="",
    definition=f"""RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
{FIXED} AS $function$
DECLARE
  is_referred_to boolean;
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.id = OLD.id THEN
    RETURN NULL;
  END IF;
  FOR place IN 0 .. TG_NARGS - 1 BY 2 LOOP
    IF TG_OP = 'TRUNCATE' THEN
      EXECUTE format('SELECT EXISTS (SELECT FROM ledger.%I WHERE %I IS NOT NULL)',
        TG_ARGV[place], TG_ARGV[place + 1]) INTO is_referred_to;
    ELSE
      EXECUTE format('SELECT EXISTS (SELECT FROM ledger.%I WHERE %I = $1)',
        TG_ARGV[place], TG_ARGV[place + 1]) INTO is_referred_to USING OLD.id;
    END IF;
    IF is_referred_to THEN
      RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
        '%s of ledger.%I is refused: rows of ledger.%I refer to it, and they are never changed',
        TG_OP, TG_TABLE_NAME, TG_ARGV[place]);
    END IF;
  END LOOP;
  IF current_setting('session_replication_role') = 'replica'
    AND current_setting('transaction_isolation') <> 'read committed'
  THEN
    RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
      '%s of ledger.%I is refused: a session that replays for a replica at %s does not see what'
      ' was committed meanwhile, and refers to it', TG_OP, TG_TABLE_NAME,
      current_setting('transaction_isolation'));
  END IF;
  RETURN NULL;
END
$function$""",
)
"""It acts as the owner, from whom row level security hides no row."""


def triggers(target: KeptRows) -> dict[str, str]:
    """The statements that make the triggers, by name.

    After a change and not before it: where keys are enforced they have refused it by then, in
    the words that everybody knows.
    """
    moments = {
        f"{target.name}_keeps_rows": "AFTER DELETE OR UPDATE OF id ON {} FOR EACH ROW",
        f"{target.name}_refuses_truncate": "BEFORE TRUNCATE ON {} FOR EACH STATEMENT",
    }
    arguments = ", ".join(literal(each) for pair in target.referred_to_by for each in pair)
    return {
        name: f"CREATE OR REPLACE TRIGGER {name} {moment.format(f'ledger.{target.name}')}"
        f" EXECUTE FUNCTION ledger.{KEEP.name}({arguments})"
        for name, moment in moments.items()
    }


def create(target: KeptRows) -> list[Step]:
    """Have it refused that a row goes which others refer to."""
    return always_triggers.create(target.name, [KEEP], triggers(target))


def drop(target: KeptRows) -> list[Step]:
    """Leave it to the foreign keys."""
    return always_triggers.drop(target.name, [KEEP], triggers(target))


def facts(target: KeptRows) -> list[Fact]:
    """It is refused."""
    return always_triggers.facts(target.name, [KEEP], triggers(target))
