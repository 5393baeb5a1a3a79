"""How payloads of the execution ledger are erased, the one change that its rows allow."""

from __future__ import annotations

from typing import Final

from ledger.ddl.execution_appending import ERASURES, HEADS, LEDGER
from ledger.ddl.execution_hashing import NO_HASH, erasure_hash_of
from ledger.ddl.objects import Routine
from ledger.ddl.scopes import NARROWED_TO
from ledger.ddl.search_path import FIXED
from ledger.models.audit_checks import ERASED_TEXT


def _erased_form(row: str) -> dict[str, str]:
    """What is left of a row: what it cost and how long it took are no one's secret."""
    return {
        "salt": "NULL",
        "intent": f"'{ERASED_TEXT}'",
        "input": "'{}'::jsonb",
        "output": f"CASE WHEN {row}.output IS NOT NULL THEN '{{}}'::jsonb END",
        "cost_json": (
            f"jsonb_build_object('breakdown', '{{}}'::jsonb, 'total', {row}.cost_json -> 'total')"
        ),
        "execution_trace_json": (
            "jsonb_build_object('steps', '[]'::jsonb,"
            f" 'duration_ms', {row}.execution_trace_json -> 'duration_ms')"
        ),
        "error_message": f"CASE WHEN {row}.error_message IS NOT NULL THEN '{ERASED_TEXT}' END",
    }


_erased_columns: Final = "\n".join(
    f"  erased.{name} := {value};" for name, value in _erased_form("OLD").items()
)
_set_erased: Final = ",\n    ".join(
    f"{name} = {value}" for name, value in _erased_form("erased").items()
)

GUARD: Final = Routine(
    name="guard_execution",
    arguments="",
    definition=f"""RETURNS trigger LANGUAGE plpgsql
{FIXED} AS $function$
DECLARE
  erased ledger.{LEDGER} := OLD;
BEGIN
{_erased_columns}
  -- Worked out anew after this trigger.
  erased.total_cost_cents := NEW.total_cost_cents;
  erased.duration_ms := NEW.duration_ms;
  -- By their images: 1.500 is 1.5 to jsonb, and another text.
  IF OLD.salt IS NOT NULL AND NEW *= erased AND EXISTS (
    SELECT FROM ledger.{ERASURES} WHERE project_id = OLD.project_id AND sequence = OLD.sequence)
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE =
    'UPDATE of ledger.{LEDGER} is refused: its rows are added and never changed; payloads are'
    ' erased by ledger.erase_execution()';
END
$function$""",
)
"""Lets payloads be erased, once, where that is written down, and refuses any other change."""

LINK: Final = Routine(
    name="link_erasure",
    arguments="",
    definition=f"""RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
{FIXED} AS $function$
DECLARE
  last ledger.{ERASURES};
BEGIN
  PERFORM FROM ledger.{HEADS} WHERE project_id = NEW.project_id FOR UPDATE;
  -- What was committed while the lock was waited for, and what this statement has put in.
  SELECT * INTO last FROM ledger.{ERASURES} WHERE project_id = NEW.project_id
  ORDER BY number DESC LIMIT 1;
  NEW.number := coalesce(last.number, 0) + 1;
  NEW.erased_at := clock_timestamp();
  NEW.erased_by := SESSION_USER;
  NEW.hash := {erasure_hash_of("NEW", before=f"coalesce(last.hash, {NO_HASH})")};
  RETURN NEW;
END
$function$""",
)
"""Says of an erasure when and by whom it is made, and hashes it after the one before it."""

CARRY_OUT: Final = Routine(
    name="carry_out_erasure",
    arguments="",
    definition=f"""RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
{FIXED} AS $function$
BEGIN
  UPDATE ledger.{LEDGER} AS erased SET {_set_erased}
  WHERE erased.project_id = NEW.project_id AND erased.sequence = NEW.sequence;
  UPDATE ledger.{HEADS} SET erasures = NEW.number, erasures_hash = NEW.hash
  WHERE project_id = NEW.project_id;
  RETURN NULL;
END
$function$""",
)
"""Erases the payloads of the run that an erasure names, so that neither is without the other."""

ERASE: Final = Routine(
    name="erase_execution",
    arguments="run text, reason text",
    definition=f"""RETURNS SETOF ledger.{ERASURES} LANGUAGE plpgsql SECURITY DEFINER
{FIXED} AS $function$
DECLARE
  narrowed CONSTANT uuid := {NARROWED_TO};
BEGIN
  INSERT INTO ledger.{ERASURES} (project_id, sequence, reason)
  SELECT project_id, sequence, erase_execution.reason FROM ledger.{LEDGER}
  WHERE run_id = run AND (narrowed IS NULL OR user_id = narrowed)
  ON CONFLICT (project_id, sequence) DO NOTHING;
  -- Where the record came without the deed, as by a replay.
  IF EXISTS (
    SELECT FROM ledger.{LEDGER} JOIN ledger.{ERASURES} USING (project_id, sequence)
    WHERE run_id = run AND salt IS NOT NULL AND (narrowed IS NULL OR user_id = narrowed))
  THEN
    UPDATE ledger.{LEDGER} AS erased SET {_set_erased} WHERE run_id = run AND salt IS NOT NULL;
  END IF;
  RETURN QUERY SELECT erasure.* FROM ledger.{ERASURES} erasure
  JOIN ledger.{LEDGER} erased USING (project_id, sequence)
  WHERE run_id = run AND (narrowed IS NULL OR user_id = narrowed);
END
$function$""",
)
"""Erases the payloads of a run for a reason, or says when and why that was done before."""
