"""How rows are appended to the execution ledger, and what refuses those that do not follow."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from ledger.ddl.execution_hashing import (
    CHAINED,
    HASH_VERSION,
    NO_HASH,
    digests_of,
    encoding_of,
    hash_of,
)
from ledger.ddl.objects import Routine
from ledger.ddl.scopes import NARROWED_TO
from ledger.ddl.search_path import FIXED
from ledger.models.audit import Execution, ExecutionErasure, ExecutionHead
from ledger.models.audit_checks import HASH_BYTES
from ledger.settings import MOST_TOLERANCE

LEDGER: Final = Execution.__tablename__
HEADS: Final = ExecutionHead.__tablename__
ERASURES: Final = ExecutionErasure.__tablename__

SENT: Final = (
    "id",
    "run_id",
    "parent_run_id",
    "project_id",
    "user_id",
    "agent_id",
    "intent",
    "input",
    "output",
    "cost_json",
    "execution_trace_json",
    "status",
    "error_message",
    "created_at",
)
"""What is sent of a run; the rest is worked out when it is appended."""

MOST_HOURS_AHEAD: Final = MOST_TOLERANCE // timedelta(hours=1)
"""That a run may end after it is recorded, as clocks differ. Nobody can remove a row, and one of
the year 10000 would lead every list, and be read by none."""
_LAST_MOMENT: Final = "9999-01-01 00:00:00+00"
"""What Python's datetime holds, in every time zone."""

_columns: Final = ", ".join(SENT)
_digests: Final = digests_of("(run)").replace("(run).salt", "salt")

APPEND: Final = Routine(
    name="append_executions",
    arguments="projects uuid[], executions json",
    definition=f"""RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
{FIXED} AS $function$
DECLARE
  -- Of random bits that nobody keeps: a salt that is erased cannot be worked out again.
  secret CONSTANT bytea := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
  runs ledger.{LEDGER}[];
  digested bytea[];
  narrowed CONSTANT uuid := {NARROWED_TO};
  appended_at timestamptz;
  appended bigint;
BEGIN
  -- Before the heads are locked, as far as it can be: others wait for them.
  SELECT array_agg(run ORDER BY place), array_agg(salt || {_digests} ORDER BY place)
  INTO runs, digested
  FROM (
    SELECT run, place, sha256(secret || int8send(place)) AS salt
    FROM (
      SELECT run, row_number() OVER () AS place
      FROM json_populate_recordset(NULL::ledger.{LEDGER}, executions) AS run
      WHERE project_id = ANY (projects)
    ) AS sent
    OFFSET 0 -- or a salt would be worked out for each digest
  ) AS salted;
  IF narrowed IS NOT NULL AND EXISTS (SELECT FROM unnest(runs) WHERE user_id <> narrowed) THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format(
      'ledger.user_id narrows this session to user %s, and it records runs of nobody else',
      narrowed);
  END IF;
  -- In the order of their ids, or two who append to the same projects would deadlock.
  INSERT INTO ledger.{HEADS} (project_id) SELECT * FROM unnest(projects) AS id ORDER BY id
  ON CONFLICT DO NOTHING;
  PERFORM FROM ledger.{HEADS} WHERE project_id = ANY (projects) ORDER BY project_id FOR UPDATE;
  appended_at := clock_timestamp();
  -- Each statement sees what was committed until it began: all that the locks waited for.
  INSERT INTO ledger.{LEDGER} ({_columns}, salt, payload_digests, recorded_at, sequence,
    hash_version, previous_hash, hash)
  SELECT {_columns}, salt, payload_digests, appended_at, sequence, {HASH_VERSION},
    coalesce(lag(hash) OVER chain, head_hash), hash
  FROM (
    SELECT *, ledger.{CHAINED}(head_hash, sha256({
        encoding_of(
            "digested",
            recorded_at="appended_at",
            duration_ms="(execution_trace_json ->> 'duration_ms')::bigint",
            total_cost_cents="(cost_json ->> 'total')::numeric(24, 12)",
        )
    }))
      OVER (PARTITION BY project_id ORDER BY place) AS hash
    FROM (
      SELECT {_columns}, substring(unnest FOR {HASH_BYTES}) AS salt,
        substring(unnest FROM {HASH_BYTES + 1}) AS payload_digests, ordinality AS place, head_hash,
        head_sequence + row_number() OVER (PARTITION BY project_id ORDER BY ordinality) AS sequence
      FROM ROWS FROM (unnest(runs), unnest(digested)) WITH ORDINALITY AS sent
      JOIN (
        SELECT project_id, sequence AS head_sequence, hash AS head_hash FROM ledger.{HEADS}
      ) AS head USING (project_id)
      WHERE NOT EXISTS (SELECT FROM ledger.{LEDGER} stored WHERE stored.run_id = sent.run_id)
    ) AS digested
  ) AS hashed
  WINDOW chain AS (PARTITION BY project_id ORDER BY place)
  ORDER BY project_id, place;
  GET DIAGNOSTICS appended = ROW_COUNT;
  RETURN appended;
END
$function$""",
)
"""Appends those runs whose run_id is not there yet, and says how many; of these projects alone,
which are said beside them, as to look for them in the runs takes a tenth of the time."""

EXTEND: Final = Routine(
    name="extend_chain",
    arguments="",
    definition=f"""RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
{FIXED} AS $function$
DECLARE
  stray record;
BEGIN
  IF NOT EXISTS (SELECT FROM inserted) THEN
    RETURN NULL;
  END IF;
  SELECT run_id, project_id, sequence, created_at, is_timely INTO stray
  FROM (
    SELECT added.run_id, added.project_id, added.sequence, added.previous_hash, added.created_at,
      added.created_at <= added.recorded_at + INTERVAL '{MOST_HOURS_AHEAD} hours'
        AND added.recorded_at < '{_LAST_MOMENT}' AS is_timely,
      added.salt IS NOT NULL AND added.hash = {hash_of("added")} AS is_hashed,
      coalesce(lag(added.sequence) OVER chain, head.sequence) AS sequence_before,
      coalesce(lag(added.hash) OVER chain, head.hash) AS hash_before
    FROM inserted added LEFT JOIN ledger.{HEADS} head ON head.project_id = added.project_id
    WINDOW chain AS (PARTITION BY added.project_id ORDER BY added.sequence)
  ) AS added
  WHERE (sequence = sequence_before + 1 AND previous_hash = hash_before AND is_hashed
    AND is_timely) IS NOT TRUE
  LIMIT 1;
  IF NOT stray.is_timely THEN
    RAISE EXCEPTION USING ERRCODE = 'LG005', MESSAGE = format(
      'run %L ends at %s, more than {MOST_HOURS_AHEAD} hours after it is recorded; see what clock'
      ' that is by', stray.run_id, stray.created_at);
  ELSIF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
      'INSERT of run %L into ledger.{LEDGER} is refused: sequence %s does not follow the head of'
      ' the chain of project %s; rows are appended by ledger.{APPEND.name}()',
      stray.run_id, stray.sequence, stray.project_id);
  END IF;
  UPDATE ledger.{HEADS} head SET sequence = last.sequence, hash = last.hash
  FROM (
    SELECT project_id, sequence, hash FROM inserted
    WHERE (project_id, sequence) IN (SELECT project_id, max(sequence) FROM inserted GROUP BY 1)
  ) AS last
  WHERE head.project_id = last.project_id;
  RETURN NULL;
END
$function$""",
)
"""Refuses rows that are not the next of their chain, and moves its head to the last of them."""

ADVANCE: Final = Routine(
    name="guard_head",
    arguments="",
    definition=f"""RETURNS trigger LANGUAGE plpgsql
{FIXED} AS $function$
BEGIN
  IF NEW.project_id = OLD.project_id AND (
    (NEW.erasures, NEW.erasures_hash) = (OLD.erasures, OLD.erasures_hash)
    AND NEW.sequence > OLD.sequence AND EXISTS (
      SELECT FROM ledger.{LEDGER} WHERE project_id = NEW.project_id
        AND sequence = NEW.sequence AND hash = NEW.hash)
    OR (NEW.sequence, NEW.hash) = (OLD.sequence, OLD.hash)
    AND NEW.erasures = OLD.erasures + 1 AND EXISTS (
      SELECT FROM ledger.{ERASURES} WHERE project_id = NEW.project_id
        AND number = NEW.erasures AND hash = NEW.erasures_hash))
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE =
    'UPDATE of ledger.{HEADS} is refused: a head moves on to a row, or an erasure, that was'
    ' appended';
END
$function$""",
)

BEGIN: Final = Routine(
    name="begin_head",
    arguments="",
    definition=f"""RETURNS trigger LANGUAGE plpgsql
{FIXED} AS $function$
BEGIN
  IF (NEW.sequence, NEW.hash, NEW.erasures, NEW.erasures_hash)
    = (0, {NO_HASH}, 0, {NO_HASH})
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE =
    'INSERT into ledger.{HEADS} is refused: a chain begins at nothing, and moves on with its rows';
END
$function$""",
)

BY_RUN: Final = Routine(
    name="executions_by_run",
    arguments="run_ids text[]",
    definition=f"""RETURNS SETOF ledger.{LEDGER} LANGUAGE sql STABLE SECURITY DEFINER
{FIXED}
AS $function$
SELECT stored.* FROM unnest(run_ids) AS given(run_id)
CROSS JOIN LATERAL (
  SELECT * FROM ledger.{LEDGER} s WHERE s.run_id = given.run_id OFFSET 0) AS stored
WHERE stored.user_id = coalesce({NARROWED_TO}, stored.user_id)
$function$""",
)
"""What is stored under ids that the caller has: lets a role that may only append tell a
repeated record from a conflicting one."""
