"""The statements that verify chains; rows are hashed where they lie, and none is sent."""

# ruff: noqa: S608 - the names are ours, and values are bound

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, LargeBinary, TextClause, Uuid, bindparam, text

from ledger.ddl.execution_appending import ERASURES, HEADS, LEDGER
from ledger.ddl.execution_hashing import (
    HASH_VERSION,
    NO_HASH,
    digests_of,
    encoding_of,
    hash_of,
)
from ledger.models.audit_checks import ERASED_FORM, HASH_BYTES, PAYLOADS
from ledger.models.audit_sums import EXECUTION_COSTS, EXECUTION_DAYS, EXECUTION_DELTAS

# Of two rows in one place, which somebody has made, always the same one comes first.
_ORDER: Final = "sequence, hash"


def _hash(name: str) -> str:
    """The column, which a superuser may have let be NULL."""
    return f"coalesce(stored.{name}, '') AS {name}"


_PROJECT: Final = bindparam("project_id", type_=Uuid())
_SEQUENCE: Final = bindparam("sequence", type_=BigInteger())
_HASH: Final = bindparam("hash", type_=LargeBinary())

# What is left of payloads that were erased: the totals, which are hashed beside them, and whether
# there was an output and an error message, which their digests tell.
_TOTALS_HOLD: Final = """to_jsonb(stored.total_cost_cents) = stored.cost_json -> 'total'
    AND to_jsonb(stored.duration_ms) = stored.execution_trace_json -> 'duration_ms'"""
_IS_ERASED: Final = " AND ".join(
    (
        ERASED_FORM,
        *(
            f"(stored.{name} IS NULL) = (substring(stored.payload_digests"
            f" FROM {PAYLOADS.index(name) * HASH_BYTES + 1} FOR {HASH_BYTES}) = {NO_HASH})"
            for name in ("output", "error_message")
        ),
    )
)
_PAYLOADS_HOLD: Final = f"""CASE WHEN stored.salt IS NOT NULL
    THEN stored.payload_digests = {digests_of("stored")} AND erasure.project_id IS NULL
    ELSE {_IS_ERASED} AND {_TOTALS_HOLD} AND erasure.project_id IS NOT NULL END"""


def _rows(since: str) -> str:
    """Rows, each once, and the records of their erasures, from that sequence on."""
    return f"""ledger.{LEDGER} stored LEFT JOIN (
      SELECT DISTINCT project_id, sequence FROM ledger.{ERASURES}
      WHERE project_id = :project_id AND sequence {since}) AS erasure
    ON erasure.project_id = stored.project_id AND erasure.sequence = stored.sequence"""


def chain_in_shares(rows: int) -> TextClause:
    """How far so many next rows of a chain hold, after the row of that sequence and hash."""
    return text(
        f"""
SELECT count(*) AS rows, count(*) FILTER (WHERE salt IS NULL) AS erased,
  min(place) FILTER (WHERE holds IS NOT TRUE) AS faulty_place,
  max(sequence) AS last_sequence, (array_agg(hash) FILTER (WHERE is_last))[1] AS last_hash
FROM (
  SELECT sequence, hash, salt, row_number() OVER chain AS place,
    lead(sequence) OVER chain IS NULL AS is_last,
    sequence - 1 = coalesce(lag(sequence) OVER chain, :sequence)
      AND previous_hash = coalesce(lag(hash) OVER chain, :hash) AND holds AS holds
  FROM (
    SELECT stored.sequence, stored.previous_hash, stored.hash, stored.salt,
      stored.hash = {hash_of("stored")} AND stored.hash_version = {HASH_VERSION}
        AND {_PAYLOADS_HOLD} AS holds
    FROM {_rows("> :after")}
    WHERE stored.project_id = :project_id AND stored.sequence > :after
      AND stored.sequence <= :until
    ORDER BY sequence FETCH FIRST {rows} ROWS WITH TIES
  ) AS checked
  WINDOW chain AS (ORDER BY {_ORDER})
) AS linked"""
    ).bindparams(
        _PROJECT,
        _SEQUENCE,
        _HASH,
        bindparam("after", type_=BigInteger()),
        bindparam("until", type_=BigInteger()),
    )


CHAIN: Final = chain_in_shares(20_000)
"""20,000 rows at once are read as fast as all of them, and tell how far it is."""

NEXT: Final = text(
    f"""
SELECT stored.sequence, {_hash("hash")}, stored.run_id FROM ledger.{LEDGER} stored
WHERE stored.project_id = :project_id AND stored.sequence > :after
ORDER BY {_ORDER} OFFSET :skipped LIMIT 2"""
).bindparams(
    _PROJECT,
    bindparam("after", type_=BigInteger()),
    bindparam("skipped", type_=BigInteger()),
)
"""The last row that holds and the one after it, in the order of CHAIN."""

ENDS: Final = text(
    f"""
SELECT head.sequence AS head_sequence, coalesce(head.hash, '') AS head_hash, head.heads,
  last.sequence AS last_sequence, last.run_id AS last_run_id,
  stray.sequence AS stray_sequence, stray.run_id AS stray_run_id
FROM (SELECT :project_id AS project_id) AS asked
LEFT JOIN LATERAL (
  SELECT sequence, hash, count(*) OVER () AS heads FROM ledger.{HEADS}
  WHERE project_id = asked.project_id LIMIT 1) AS head ON true
LEFT JOIN LATERAL (
  SELECT sequence, run_id FROM ledger.{LEDGER} stored
  WHERE stored.project_id = asked.project_id AND sequence IS NOT NULL
  ORDER BY sequence DESC LIMIT 1) AS last ON true
LEFT JOIN LATERAL (
  SELECT sequence, coalesce(run_id, '') AS run_id FROM ledger.{LEDGER} stored
  WHERE stored.project_id = asked.project_id AND (sequence < 1 OR sequence IS NULL)
  ORDER BY sequence LIMIT 1) AS stray ON true"""
).bindparams(_PROJECT)
"""Where the head says that the chain ends, and where it does, and a row that stands before it or
nowhere, at one moment."""

AROUND: Final = text(
    f"""
SELECT stored.sequence, stored.run_id, {_hash("hash")}, {_hash("previous_hash")}, stored.salt,
  {_hash("payload_digests")}, {digests_of("stored")} AS digests,
  coalesce({hash_of("stored")}, '') AS rehashed,
  {_IS_ERASED} AS is_erased, stored.hash_version, erasure.project_id IS NOT NULL AS has_erasure,
  {_TOTALS_HOLD} AS totals_hold
FROM {_rows(">= :sequence")}
WHERE stored.project_id = :project_id AND stored.sequence >= :sequence
ORDER BY stored.sequence LIMIT 3"""
).bindparams(_PROJECT, _SEQUENCE)
"""A row that does not hold, and those after it."""

LINKED_TO: Final = text(
    f"""
SELECT stored.sequence, stored.run_id FROM ledger.{LEDGER} stored
WHERE stored.project_id = :project_id AND stored.previous_hash = :hash
  AND stored.sequence <> :sequence
ORDER BY stored.sequence LIMIT 1"""
).bindparams(_PROJECT, _SEQUENCE, _HASH)
"""The row elsewhere in the chain that says it comes after this hash."""

ORIGINAL_PLACE: Final = text(
    f"""
SELECT original.place FROM ledger.{LEDGER} stored, generate_series(1, (
  SELECT count(*) FROM ledger.{LEDGER} WHERE project_id = :project_id) + 1) AS original(place)
WHERE stored.project_id = :project_id AND stored.sequence = :sequence AND stored.hash = :hash
  AND stored.hash = sha256(stored.previous_hash || sha256({
        encoding_of("stored", sequence="original.place")
    }))
LIMIT 1"""
).bindparams(_PROJECT, _SEQUENCE, _HASH)
"""Where in the chain a row was written that now stands elsewhere, which each place is tried for."""

AT: Final = text(
    f"SELECT hash, run_id FROM ledger.{LEDGER} WHERE project_id = :project_id"
    " AND sequence = :sequence"
).bindparams(_PROJECT, _SEQUENCE)

PROJECTS: Final = text(
    " UNION ".join(
        f"SELECT project_id FROM ledger.{table} WHERE project_id IS NOT NULL"
        for table in (HEADS, LEDGER, ERASURES, EXECUTION_DELTAS, EXECUTION_DAYS, EXECUTION_COSTS)
    )
)
"""Those that have a chain, or rows without one, or of which something else knows runs."""
