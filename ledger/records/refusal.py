"""Why a record is refused, in a sentence that names the field, the value and the rule."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Final

from ledger.errors import InvalidRecord

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

LONGEST_VALUE: Final = 100
_MOST_RULES: Final = 5

_RULES: Final = {
    "missing": "is missing, and every record has one",
    "extra_forbidden": "is not a field of such a record",
    "timezone_aware": "has no time zone; pass an aware datetime, for example datetime.now(UTC)",
    "string_pattern_mismatch": "holds a NUL character, which PostgreSQL cannot store",
    "string_unicode": "is not Unicode text; it holds a lone surrogate",
    "invalid-json-value": "is not a JSON value; use text, numbers, booleans, None, lists and dicts",
    "recursion_loop": "is nested too deeply, or holds itself",
}

_shortened = Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = LONGEST_VALUE


def shown(value: object) -> str:
    """The value as Python writes it, of at most 100 characters, whatever it is."""
    try:
        text = _shortened.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def refusal(field: str, value: object, rule: str) -> InvalidRecord:
    """The error for a value that breaks a rule."""
    return InvalidRecord(f"{field} {shown(value)}: {rule}")


def as_dict(record: object) -> dict[Any, Any]:
    """The record, which is a mapping. Raises InvalidRecord for anything else."""
    if isinstance(record, dict):
        return record
    if isinstance(record, Mapping):
        return dict(record)
    raise refusal("record", record, "neither an object of ours nor a mapping")


def as_fields(record: object) -> dict[str, Any]:
    """The same, by names alone, as keyword arguments are. Raises InvalidRecord."""
    fields = as_dict(record)
    for name in fields:
        if not isinstance(name, str):
            raise refusal("field", name, "is not a name, which is text")
    return fields


def invalid_record(error: ValidationError) -> InvalidRecord:
    """The ledger's error for pydantic's: the first five rules that were broken."""
    try:
        details = error.errors(include_url=False)
    except ValueError:  # an integer of more digits than Python writes
        return InvalidRecord("a number has more digits than Python reads")
    sentences = [_sentence(detail) for detail in details[:_MOST_RULES]]
    if len(details) > _MOST_RULES:
        sentences.append(f"and {len(details) - _MOST_RULES} more")
    return InvalidRecord("; ".join(sentences))


def _sentence(detail: ErrorDetails) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    if isinstance(found := context.get("error"), InvalidRecord):
        # It names its field itself, and not what that is part of.
        within = ".".join(str(part) for part in detail["loc"][:-1])[:LONGEST_VALUE]
        return f"{within}.{found}" if within else str(found)
    field = ".".join(str(part) for part in detail["loc"])[:LONGEST_VALUE] or "record"
    rule = _RULES.get(detail["type"], detail["msg"][:1].lower() + detail["msg"][1:])
    if detail["type"] == "missing":
        return f"{field} {rule}"
    return f"{field} {shown(detail['input'])}: {rule}"
