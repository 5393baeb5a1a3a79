"""Plain PostgreSQL's log of the hours whose rollups are older than their rows."""

from __future__ import annotations

from ledger.ddl.aggregates import EPOCH
from ledger.ddl.objects import Routine
from ledger.ddl.routines import drop_routine, make_routine
from ledger.ddl.search_path import FIXED
from ledger.ddl.steps import Step, literal


def table(series: str) -> tuple[str, str]:
    """The statements that make the log of hours whose rollups are older than their rows."""
    log = f"ledger.{series}_touched"
    return (
        (
            f"CREATE TABLE IF NOT EXISTS {log} (hour timestamptz NOT NULL, user_id uuid NOT NULL)"
            " WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0)"
        ),
        f"CREATE INDEX IF NOT EXISTS {series}_touched_idx ON {log} (hour, user_id)",
    )


def triggers(series: str) -> dict[str, tuple[str, Routine]]:
    """By event, the transition tables and the function of the trigger that writes the log.

    Statement triggers with a transition table: one insert into the log a statement, however
    many rows. SECURITY DEFINER, so that a writer needs no right on the log. Every change is
    logged, below the watermark or not: a writer that is open while the watermark moves would
    be lost otherwise.

    A row whose time was accepted before the horizon moved past it is refused: nobody would see
    it until its day is retired, as reads take what is older from rollups. Whoever moves the
    horizon locks writers out, so that each of them either is waited for or finds the new one.
    The owner's deletes and updates of what is older are let through.
    """
    hour = f"date_bin('1 hour', \"timestamp\", {EPOCH})"

    def logs(name: str, body: str) -> Routine:
        return Routine(
            name=name,
            arguments="",
            definition=f"""RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
{FIXED} AS $function$
{body}
  RETURN NULL;
END
$function$""",
        )

    insert = f"INSERT INTO ledger.{series}_touched (hour, user_id)"
    touched = logs(
        f"log_{series}_touched",
        f"""DECLARE
  oldest timestamptz;
  horizon timestamptz;
BEGIN
  WITH touched AS (
    {insert} SELECT DISTINCT {hour}, user_id FROM changed RETURNING hour)
  SELECT min(hour) INTO oldest FROM touched;
  SELECT raw_from INTO horizon FROM ledger.rollup_progress WHERE source = {literal(series)};
  IF oldest < horizon THEN
    RAISE EXCEPTION USING ERRCODE = 'LG005', MESSAGE = format(
      'rows of the hour %s are too old: what is before %s is read from rollups', oldest, horizon);
  END IF;""",
    )
    deleted = logs(
        f"log_{series}_deleted",
        f"BEGIN\n  {insert} SELECT DISTINCT {hour}, user_id FROM changed;",
    )
    moved = logs(
        f"log_{series}_updated",
        f"BEGIN\n  {insert}\n"
        f"  SELECT {hour}, user_id FROM before UNION SELECT {hour}, user_id FROM after;",
    )
    return {
        "insert": ("NEW TABLE AS changed", touched),
        "delete": ("OLD TABLE AS changed", deleted),
        "update": ("OLD TABLE AS before NEW TABLE AS after", moved),
    }


def trigger(series: str, event: str) -> str:
    """The statement that makes the trigger of an event."""
    tables, routine = triggers(series)[event]
    return (
        f"CREATE OR REPLACE TRIGGER {series}_touched_by_{event} AFTER {event.upper()}"
        f" ON ledger.{series} REFERENCING {tables} FOR EACH STATEMENT"
        f" EXECUTE FUNCTION ledger.{routine.name}()"
    )


def create(series: str) -> list[Step]:
    """Make the log, have it written, and enter the rows that were there before it."""
    by_event = triggers(series)
    hour = f"date_bin('1 hour', \"timestamp\", {EPOCH})"
    return [
        *(Step(sql=statement) for statement in table(series)),
        *(step for _, routine in by_event.values() for step in make_routine(routine)),
        *(Step(sql=trigger(series, event)) for event in by_event),
        Step(
            sql=f"INSERT INTO ledger.{series}_touched (hour, user_id)"
            f" SELECT DISTINCT {hour}, user_id FROM ledger.{series}"
        ),
    ]


def drop(series: str) -> list[Step]:
    """Take the triggers, their functions and the log away."""
    by_event = triggers(series)
    names = dict.fromkeys(routine.name for _, routine in by_event.values())
    return [
        *(
            Step(sql=f"DROP TRIGGER IF EXISTS {series}_touched_by_{event} ON ledger.{series}")
            for event in by_event
        ),
        *(drop_routine(name) for name in names),
        Step(sql=f"DROP TABLE IF EXISTS ledger.{series}_touched"),
    ]
