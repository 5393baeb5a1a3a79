"""Ids of records: UUIDv7 of exactly the record's time, drawn or derived from a key."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Final
from uuid import UUID

_FREE_BITS: Final = (1 << 80) - 1 - (0xF << 76) - (0x3 << 62)
_VERSION_AND_VARIANT: Final = (0x7 << 76) | (0x2 << 62)


def drawn_bytes(milliseconds: int) -> bytes:
    """The 16 bytes of a new id at this time, in milliseconds since 1970."""
    return _uuid7(milliseconds, os.urandom(10))


def derived_bytes(milliseconds: int, user_id: UUID, key: str) -> bytes:
    """The 16 bytes of the one id that a user's key has at this time, in milliseconds since 1970.

    The time is part of it: the same key at another millisecond is another record. Its 74 bits
    besides the time are the beginning of SHA-256 over the user's 16 bytes and the key in UTF-8.
    """
    return _uuid7(milliseconds, sha256(user_id.bytes + key.encode()).digest()[:10])


def derived_id(milliseconds: int, user_id: UUID, key: str) -> UUID:
    """The one id that a user's key has at this time, in milliseconds since 1970."""
    return UUID(bytes=derived_bytes(milliseconds, user_id, key))


def milliseconds_of(identity: UUID) -> int | None:
    """The time that a UUIDv7 holds, in milliseconds since 1970; None for any other UUID."""
    return identity.int >> 80 if identity.version == 7 else None  # noqa: PLR2004 - its name


def _uuid7(milliseconds: int, noise: bytes) -> bytes:
    # RFC 9562: 48 bits of time, 4 of version, 12 free, 2 of variant, 62 free. As bytes, which
    # is what COPY sends: to make a UUID takes longer than all of this.
    free = int.from_bytes(noise, "big") & _FREE_BITS
    return (milliseconds << 80 | free | _VERSION_AND_VARIANT).to_bytes(16, "big")
