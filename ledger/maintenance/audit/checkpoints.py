"""Taking checkpoints of all chains, and proving that a run is under one."""

# ruff: noqa: S608 - the names are ours, and values are bound

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Text, Uuid, bindparam, text

from ledger.ddl.execution_appending import HEADS, LEDGER
from ledger.ddl.execution_hashing import encoding_of
from ledger.ddl.search_path import trusted
from ledger.errors import AppendOnlyViolation, InvalidArgument, UnknownReference
from ledger.maintenance.audit.sight import require_every_run, require_project
from ledger.queries.scope import required
from ledger.records import merkle
from ledger.records.checkpoint import Checkpoint, Head, InclusionProof
from ledger.records.signing import require_unaltered, sign

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ledger.queries.query import AnyRow

_TAKEN: Final = text(
    f"""
SELECT project_id, sequence, hash, erasures, erasures_hash, taken_at
FROM (SELECT statement_timestamp() AS taken_at) AS moment
LEFT JOIN ledger.{HEADS} ON true ORDER BY project_id"""
)
_ROW: Final = text(
    f"""
SELECT stored.project_id, stored.sequence, stored.previous_hash,
  {encoding_of("stored")} AS encoding
FROM ledger.{LEDGER} stored WHERE stored.run_id = :run_id"""
).bindparams(bindparam("run_id", type_=Text()))
_LATER: Final = text(
    f"""
SELECT sha256({encoding_of("stored")}) AS digest FROM ledger.{LEDGER} stored
WHERE stored.project_id = :project_id AND stored.sequence > :sequence
  AND stored.sequence <= :until ORDER BY stored.sequence"""
).bindparams(
    bindparam("project_id", type_=Uuid()),
    bindparam("sequence", type_=BigInteger()),
    bindparam("until", type_=BigInteger()),
)


def checkpoint(connection: Connection, private_key: bytes | None) -> Checkpoint:
    """The heads of all chains at this moment, signed where there is a key."""
    with trusted(connection):
        require_every_run(connection)
        rows = connection.execute(_TAKEN).all()
    taken = Checkpoint.of(
        (_head(row) for row in rows if row.project_id is not None),
        rows[0].taken_at,
    )
    return taken if private_key is None else sign(taken, private_key)


def _head(row: AnyRow) -> Head:
    if None in tuple(row) or row.sequence < 0 or row.erasures < 0:
        raise AppendOnlyViolation(
            f"the head of project {row.project_id} was changed, and says nothing that a checkpoint"
            " could keep; run `ledger audit verify`"
        )
    return Head(
        project_id=row.project_id,
        sequence=row.sequence,
        hash=bytes(row.hash),
        erasures=row.erasures,
        erasures_hash=bytes(row.erasures_hash),
    )


def inclusion_proof(connection: Connection, run_id: str, taken: Checkpoint) -> InclusionProof:
    """That the run was there when the checkpoint was taken."""
    required(run_id, "run_id")
    require_unaltered(taken)
    with trusted(connection):
        return _proven(connection, run_id, taken)


def _proven(connection: Connection, run_id: str, taken: Checkpoint) -> InclusionProof:
    row = connection.execute(_ROW, {"run_id": run_id}).first()
    if row is None:
        raise UnknownReference(f"run_id {run_id!r}: no such run is recorded")
    require_project(connection, row.project_id)
    places = {head.project_id: place for place, head in enumerate(taken.heads)}
    place = places.get(row.project_id)
    if place is None or taken.heads[place].sequence < row.sequence:
        raise InvalidArgument(
            f"run_id {run_id!r} was recorded after the checkpoint of"
            f" {taken.taken_at.isoformat()}; take one that is later"
        )
    head = taken.heads[place]
    asked = {"project_id": row.project_id, "sequence": row.sequence, "until": head.sequence}
    later = connection.execute(_LATER, asked).scalars()
    proof = InclusionProof(
        run_id=run_id,
        project_id=row.project_id,
        sequence=row.sequence,
        previous_hash=bytes(row.previous_hash),
        encoding=bytes(row.encoding),
        later_digests=tuple(bytes(digest) for digest in later),
        head_sequence=head.sequence,
        erased=head.erased,
        path=merkle.path([each.leaf for each in taken.heads], place),
        merkle_root=taken.merkle_root,
    )
    if not proof.proves(taken):
        raise InvalidArgument(
            f"run_id {run_id!r} is not under the checkpoint of {taken.taken_at.isoformat()}: the"
            " chain has been changed since, or the checkpoint is of another database; run"
            " `ledger audit verify`"
        )
    return proof
