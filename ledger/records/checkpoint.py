"""Checkpoints: the heads of all chains at one moment, and proofs that a run is under one.

`docs/proofs.md` says what both are to someone who has neither this package nor the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, ClassVar, Final, Literal, Self, TypeAlias
from uuid import UUID

from pydantic import ConfigDict, Field

from ledger.errors import InvalidArgument
from ledger.records import merkle
from ledger.records.documents import (
    HEXADECIMAL,
    REMEDY,
    Bytes,
    Hash,
    canonical_json,
    exact,
    read_document,
)
from ledger.records.refusal import shown

_ROW_VERSION: Final = b"\x01"
_RUN_ID_AT: Final = 81
"""Where in the encoding of a row its run id is: 4 bytes of length, then UTF-8."""

ProjectId: TypeAlias = Annotated[UUID, exact(UUID, "a UUID in lower-case digits and hyphens")]
Moment: TypeAlias = Annotated[
    datetime, exact(datetime.fromisoformat, "a time in UTC such as 2026-06-15T12:30:00Z")
]
Place: TypeAlias = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
"""A sequence: a row's place in the chain of its project, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How far the chain of a project went; before its first row 0, and 32 bytes of zeros.

    And the chain of its erasures, which are hashed like rows.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    project_id: ProjectId
    sequence: Place
    hash: Hash
    erasures: Place
    """How many of the project's runs were erased."""
    erasures_hash: Hash

    @property
    def leaf(self) -> bytes:
        """The 96 bytes that stand for it in a checkpoint's Merkle tree."""
        return _leaf(self.project_id, self.sequence, self.hash, self.erased)

    @property
    def erased(self) -> bytes:
        """The last 40 bytes of its leaf, which are of the erasures."""
        return self.erasures.to_bytes(8, "big") + self.erasures_hash


def _leaf(project_id: UUID, sequence: int, chained: bytes, erased: bytes) -> bytes:
    return project_id.bytes + sequence.to_bytes(8, "big") + chained + erased


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Who signed a checkpoint, and the signature of its `signed_bytes`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    algorithm: Literal["ed25519"]
    public_key: Hash
    """The key itself, 32 bytes: it says which key signed, not whose it is."""
    value: Annotated[bytes, exact(bytes.fromhex, f"64 {HEXADECIMAL}", 64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The heads of all chains at one moment; made by `of` and `from_json`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    taken_at: Moment
    """In UTC."""
    heads: tuple[Head, ...]
    """One a project, in the order of `project_id`."""
    merkle_root: Hash
    """Of the heads' leaves, in their order."""
    signature: Signature | None

    @classmethod
    def of(cls, heads: Iterable[Head], taken_at: datetime) -> Self:
        """The unsigned checkpoint of these heads, in any order, at this moment.

        Raises InvalidArgument for two heads of one project, and for a moment without a time zone.
        """
        if taken_at.utcoffset() is None:
            raise InvalidArgument(
                f"taken_at {taken_at} has no time zone; pass an aware datetime, for example"
                " datetime.now(UTC)"
            )
        ordered = tuple(sorted(heads, key=lambda head: head.project_id))
        for head, following in pairwise(ordered):
            if head.project_id == following.project_id:
                raise InvalidArgument(
                    f"project {head.project_id} has two heads, at {head.sequence} and at"
                    f" {following.sequence}; a checkpoint has one a project, its last row's"
                )
        return cls(
            taken_at=taken_at.astimezone(UTC),
            heads=ordered,
            merkle_root=merkle.root([head.leaf for head in ordered]),
            signature=None,
        )

    def to_json(self) -> str:
        """The document, on one line; `from_json` makes an equal checkpoint of it."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The checkpoint of a document; for who signed it there is `require_signature`.

        Raises InvalidArgument for what is no such document or has another root than its heads.
        """
        found = read_document(cls, text)
        expected = cls.of(found.heads, found.taken_at)
        if found.heads != expected.heads:
            raise InvalidArgument(f"the heads are not in the order of project_id; {REMEDY}")
        if found.merkle_root != expected.merkle_root:
            raise InvalidArgument(
                f"merkle_root {found.merkle_root.hex()} is not that of the heads, which is"
                f" {expected.merkle_root.hex()}; {REMEDY}"
            )
        return found


def signed_bytes(checkpoint: Checkpoint) -> bytes:
    """What is signed of a checkpoint: its canonical JSON without ``signature``, in UTF-8."""
    return canonical_json(checkpoint, without="signature").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """That the row of one run is under the Merkle root of a checkpoint."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    run_id: Annotated[str, exact(lambda text: text.encode().decode(), "Unicode text")]
    project_id: ProjectId
    sequence: Place
    previous_hash: Hash
    """Of the row before; 32 bytes of zeros before the first."""
    encoding: Bytes
    """The row, as its digest is of it."""
    later_digests: tuple[Hash, ...]
    """Of each row after it up to the head, in their order: 32 bytes a row."""
    head_sequence: Place
    erased: Annotated[bytes, exact(bytes.fromhex, f"40 {HEXADECIMAL}", 40)]
    """Of the project's erasures, as its head's leaf has them."""
    path: tuple[tuple[merkle.Side, Hash], ...]
    """From the leaf of the project's head to the root."""
    merkle_root: Hash

    def proves(self, trusted: Checkpoint) -> bool:
        """Whether the run was there when that checkpoint was taken, which the caller trusts.

        Recomputed from the encoding up to its root. The root that the proof says it is of counts
        for nothing: anyone can make a proof of a root of his own. Raises InvalidArgument for what
        is no checkpoint.
        """
        require_checkpoint(trusted)
        if self.head_sequence != self.sequence + len(self.later_digests):
            return False
        name = self.run_id.encode()
        place = _ROW_VERSION + self.project_id.bytes + self.sequence.to_bytes(8, "big")
        named = len(name).to_bytes(4, "big") + name
        if not (self.encoding.startswith(place) and self.encoding.startswith(named, _RUN_ID_AT)):
            return False
        chained = self.previous_hash
        for digest in (sha256(self.encoding).digest(), *self.later_digests):
            chained = sha256(chained + digest).digest()
        leaf = _leaf(self.project_id, self.head_sequence, chained, self.erased)
        return merkle.root_of(leaf, self.path) == self.merkle_root == trusted.merkle_root

    def to_json(self) -> str:
        """The document, on one line; `from_json` makes an equal proof of it."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The proof of a document, whether it proves or not. Raises InvalidArgument."""
        return read_document(cls, text)


def require_checkpoint(checkpoint: object) -> None:
    """Raise InvalidArgument for what is no checkpoint, such as the text of one."""
    if not isinstance(checkpoint, Checkpoint):
        raise InvalidArgument(
            f"checkpoint {shown(checkpoint)} is none; read its text by Checkpoint.from_json"
        )
