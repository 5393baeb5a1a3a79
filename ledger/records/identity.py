"""Ids of records: UUIDv7 of exactly the record's time, drawn or derived from a key."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Final
from uuid import UUID

_FREE_BITS: Final = (1 << 80) - 1 - (0xF << 76) - (0x3 << 62)
_VERSION_AND_VARIANT: Final = (0x7 << 76) | (0x2 << 62)


def drawn_id(milliseconds: int) -> UUID:
    """A new id at this time, in milliseconds since 1970."""
    return _uuid7(milliseconds, os.urandom(10))


def derived_id(milliseconds: int, user_id: UUID, key: str) -> UUID:
    """The one id that a user's key has at this time, in milliseconds since 1970.

    The time is part of it: the same key at another millisecond is another record. Its 74 bits
    besides the time are the beginning of SHA-256 over the user's 16 bytes and the key in UTF-8.
    """
    return _uuid7(milliseconds, sha256(user_id.bytes + key.encode()).digest()[:10])


def milliseconds_of(identity: UUID) -> int | None:
    """The time that a UUIDv7 holds, in milliseconds since 1970; None for any other UUID."""
    return identity.int >> 80 if identity.version == 7 else None  # noqa: PLR2004 - its name


def _uuid7(milliseconds: int, noise: bytes) -> UUID:
    # RFC 9562: 48 bits of time, 4 of version, 12 free, 2 of variant, 62 free.
    free = int.from_bytes(noise, "big") & _FREE_BITS
    return UUID(int=milliseconds << 80 | free | _VERSION_AND_VARIANT)
