"""How a row of the execution ledger is encoded and hashed.

A row's hash is sha256(the hash before it || sha256(its encoding)). The encoding, version 1, is
laid out in docs/proofs.md; payloads enter it as digests, sha256(salt || the payload's stored
text), so that they can be erased and the chain stays whole.
"""

from __future__ import annotations

from typing import Final

from ledger.ddl.objects import Routine
from ledger.models.audit_checks import HASH_BYTES, PAYLOADS

HASH_VERSION: Final = 1


def _bytes(digits: str) -> str:
    """Bytes as SQL that means the same whatever standard_conforming_strings is."""
    return rf"E'\\x{digits}'::bytea"


NO_HASH: Final = _bytes("00" * HASH_BYTES)
_NO_TEXT: Final = _bytes("ffffffff")
_OF_A_ROW: Final = _bytes("01")
_OF_AN_ERASURE: Final = _bytes("02")
"""What an encoding begins with, so that neither is taken for the other."""

_ENCODED: Final = (
    ("project_id", "uuid"),
    ("sequence", "bigint"),
    ("id", "uuid"),
    ("user_id", "uuid"),
    ("created_at", "timestamptz"),
    ("recorded_at", "timestamptz"),
    ("duration_ms", "bigint"),
    ("run_id", "text"),
    ("parent_run_id", "text"),
    ("agent_id", "text"),
    ("status", "text"),
    ("total_cost_cents", "numeric"),
    ("payload_digests", "bytea"),
)
_ENCODED_ERASURE: Final = (
    ("project_id", "uuid"),
    ("number", "bigint"),
    ("sequence", "bigint"),
    ("erased_at", "timestamptz"),
    ("erased_by", "text"),
    ("reason", "text"),
)
_PAYLOAD_TYPES: Final = {
    name: "text" if name in {"intent", "error_message"} else "jsonb" for name in PAYLOADS
}


def _utf8(text: str) -> str:
    return f"convert_to({text}, 'UTF8')"


def _sized(text: str) -> str:
    """A text behind its length in bytes; none at all is the length -1."""
    return f"coalesce(int4send(octet_length({_utf8(text)})) || {_utf8(text)}, {_NO_TEXT})"


def _bytes_of(name: str, kind: str) -> str:
    match kind:
        case "uuid":
            return f"uuid_send({name})"
        case "bigint":
            return f"int8send({name})"
        case "timestamptz":
            return f"timestamptz_send({name})"
        case "text":
            return _sized(name)
        case "numeric":
            # Without the zeros that only the column's scale puts there.
            return _sized(f"trim_scale({name})::text")
        case _:
            return name


def _digest(name: str, kind: str) -> str:
    text = name if kind == "text" else f"{name}::text"
    return f"coalesce(sha256(salt || {_utf8(text)}), {NO_HASH})"


ENCODING: Final = Routine(
    name="execution_encoding",
    arguments=", ".join(f"{name} {kind}" for name, kind in _ENCODED),
    definition=(
        "RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE RETURN "
        + " || ".join([_OF_A_ROW, *(_bytes_of(name, kind) for name, kind in _ENCODED)])
    ),
)
"""A RETURN body, in which names are found when it is made. STABLE, as convert_to is: otherwise
it would not be inlined, and a call takes 15 us."""

DIGESTS: Final = Routine(
    name="payload_digests",
    arguments=", ".join(
        ["salt bytea", *(f"{name} {kind}" for name, kind in _PAYLOAD_TYPES.items())]
    ),
    definition=(
        "RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE RETURN "
        + " || ".join(_digest(name, kind) for name, kind in _PAYLOAD_TYPES.items())
    ),
)


def encoding_of(row: str, **other: str) -> str:
    """The encoding of a row that goes by this name; ``other`` columns are found elsewhere."""
    given = (other.get(name, f"{row}.{name}") for name, _ in _ENCODED)
    return f"ledger.{ENCODING.name}({', '.join(given)})"


def digests_of(row: str) -> str:
    """The digests of the payloads of a row that goes by this name."""
    given = (f"{row}.{name}" for name in ("salt", *PAYLOADS))
    return f"ledger.{DIGESTS.name}({', '.join(given)})"


def hash_of(row: str) -> str:
    """The hash that a row should have, after the one it says is before it."""
    return f"sha256({row}.previous_hash || sha256({encoding_of(row)}))"


def erasure_hash_of(row: str, *, before: str) -> str:
    """The hash that the record of an erasure should have, after the one of that hash."""
    encoded = (_bytes_of(f"{row}.{name}", kind) for name, kind in _ENCODED_ERASURE)
    return f"sha256({before} || sha256({' || '.join([_OF_AN_ERASURE, *encoded])}))"


LINK: Final = Routine(
    name="link_execution",
    arguments="hash bytea, head bytea, digest bytea",
    definition="""RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $function$
BEGIN
  RETURN pg_catalog.sha256(coalesce(hash, head) OPERATOR(pg_catalog.||) digest);
END
$function$""",
)
"""A step of the aggregate `chained_hash`. In PL/pgSQL, as an SQL function takes twice as long."""

CHAINED: Final = "chained_hash"
MAKE_CHAINED: Final = (
    f"CREATE OR REPLACE AGGREGATE ledger.{CHAINED}(bytea, bytea)"
    f" (SFUNC = ledger.{LINK.name}, STYPE = bytea)"
)
"""The hash after each row of a window, of the head before the first and each row's digest."""
