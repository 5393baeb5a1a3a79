"""Verifying the records of erasures, which are a chain of their own beside that of the rows."""

# ruff: noqa: S608 - the names are ours, and values are bound

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Uuid, bindparam, text

from ledger.ddl.execution_appending import ERASURES, HEADS, LEDGER
from ledger.ddl.execution_hashing import NO_HASH, erasure_hash_of
from ledger.records.verification import Fault

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection

    from ledger.queries.query import AnyRow
    from ledger.records.checkpoint import Head
    from ledger.records.verification import FaultKind

_BEFORE: Final = f"coalesce(lag(erasure.hash) OVER chain, {NO_HASH})"
_CHAIN: Final = text(
    f"""
WITH linked AS MATERIALIZED (
  SELECT erasure.number, erasure.hash, erasure.sequence, stored.run_id,
    stored.sequence IS NOT NULL AS has_row,
    erasure.number = row_number() OVER chain
      AND erasure.hash = {erasure_hash_of("erasure", before=_BEFORE)} AS holds
  FROM ledger.{ERASURES} erasure LEFT JOIN ledger.{LEDGER} stored
    ON stored.project_id = erasure.project_id AND stored.sequence = erasure.sequence
  WHERE erasure.project_id = :project_id
  WINDOW chain AS (ORDER BY erasure.number, erasure.hash)),
ends AS (
  SELECT count(*) AS number, (array_agg(hash ORDER BY number DESC))[1] AS hash,
    (array_agg(hash) FILTER (WHERE number = :kept))[1] AS hash_kept
  FROM linked)
SELECT ends.number, ends.hash_kept,
  head.erasures AS head_number,
  (ends.number, coalesce(ends.hash, {NO_HASH})) = (head.erasures, head.erasures_hash) AS is_head,
  faulty.number AS faulty_number, faulty.sequence, faulty.run_id, faulty.has_row,
  coalesce(faulty.is_faulty, false) AS is_faulty
FROM ends
LEFT JOIN (
  SELECT erasures, erasures_hash FROM ledger.{HEADS} WHERE project_id = :project_id
  UNION ALL SELECT 0, {NO_HASH} WHERE NOT EXISTS (
    SELECT FROM ledger.{HEADS} WHERE project_id = :project_id)) AS head ON true
LEFT JOIN LATERAL (
  SELECT true AS is_faulty, * FROM linked WHERE (holds AND has_row) IS NOT TRUE
  ORDER BY number NULLS FIRST LIMIT 1) AS faulty ON true"""
).bindparams(
    bindparam("project_id", type_=Uuid()),
    bindparam("kept", type_=BigInteger()),
)
"""Where records of erasures end and where the head says that they do, the one that a checkpoint
knows, and the first that does not hold or is of no row, at one moment."""


def fault_of_erasures(connection: Connection, project_id: UUID, kept: Head | None) -> Fault | None:
    """Where they are not what was written, up to the head and as the checkpoint saw them."""
    asked = {"project_id": project_id, "kept": 0 if kept is None else kept.erasures}
    found = connection.execute(_CHAIN, asked).one()
    if found.is_faulty:
        return _of_one(found)
    if found.head_number is not None and found.number < found.head_number:
        return _truncated(found.number, found.head_number, "are gone")
    if not found.is_head:
        return _changed("the last record of an erasure is not the one that the head is of")
    return None if kept is None or kept.erasures == 0 else _against(kept, found)


def _of_one(found: AnyRow) -> Fault:
    kind: FaultKind = "changed"
    detail = (
        f"the record of its erasure, number {found.faulty_number}, is not what was written, or does"
        " not come after the one before it"
    )
    if not found.has_row:
        kind = "missing"
        detail = f"an erasure of row {found.sequence} is recorded, and there is no such row"
    return Fault(kind=kind, sequence=found.sequence, run_id=found.run_id, detail=detail)


def _against(kept: Head, found: AnyRow) -> Fault | None:
    if found.number < kept.erasures:
        return _truncated(found.number, kept.erasures, "were there at the checkpoint")
    if bytes(found.hash_kept) == kept.erasures_hash:
        return None
    return _changed(
        f"up to number {kept.erasures}, records of erasures are not what the checkpoint saw; they"
        " were written anew"
    )


def _truncated(number: int, wanted: int, what: str) -> Fault:
    detail = f"records {number + 1} to {wanted} of erasures {what}"
    return Fault(kind="truncated", sequence=None, run_id=None, detail=detail)


def _changed(detail: str) -> Fault:
    return Fault(kind="changed", sequence=None, run_id=None, detail=detail)
