"""Documents that are kept or handed on: JSON in the one form in which it is signed and read."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import PlainValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from ledger.errors import InvalidArgument
from ledger.records.plain import plain
from ledger.records.refusal import invalid_record, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DOCUMENT_VERSION: Final = 1
HEXADECIMAL: Final = "bytes in lower-case hexadecimal digits"
REMEDY: Final = "take the document as it was written, from where it is kept"

_Document = TypeVar("_Document")


def exact(parse: Callable[[str], object], form: str, size: int | None = None) -> PlainValidator:
    """Reads text that stands for a value, in the one form that the value is written in.

    ``size`` is that of the value in bytes, where it has one.
    """

    def read(text: Any) -> object:  # noqa: ANN401 - whatever a document holds
        with suppress(AttributeError, OverflowError, TypeError, ValueError):
            value = parse(text)
            if _written(value) == text and size in {None, len(text) // 2}:
                return value
        raise PydanticCustomError("form", "is not {form}", {"form": form})

    return PlainValidator(read)


def _written(value: object) -> Any:  # noqa: ANN401 - what JSON holds
    return value.hex() if isinstance(value, bytes) else plain(value)


Bytes: TypeAlias = Annotated[bytes, exact(bytes.fromhex, HEXADECIMAL)]
Hash: TypeAlias = Annotated[bytes, exact(bytes.fromhex, f"32 {HEXADECIMAL}", 32)]


def canonical_json(document: DataclassInstance, *, without: str | None = None) -> str:
    """The document in the one form that it is signed in: keys sorted, no spaces, no escapes."""
    fields = {"version": DOCUMENT_VERSION} | asdict(document)
    return json.dumps(
        {name: value for name, value in fields.items() if name != without},
        default=_written,
        ensure_ascii=False,
        separators=(",", ":"),
        sort_keys=True,
    )


def read_document(document: type[_Document], text: str) -> _Document:
    """The value whose document this is. Raises InvalidArgument."""
    kind = document.__name__
    try:
        fields = json.loads(text, object_pairs_hook=_unique)
    except (RecursionError, ValueError) as error:
        raise InvalidArgument(f"{kind} {shown(text)} cannot be read: {error}; {REMEDY}") from None
    version = fields.pop("version", None) if isinstance(fields, dict) else None
    if type(version) is not int or version != DOCUMENT_VERSION:
        raise InvalidArgument(
            f"{kind} {shown(text)} is of version {shown(version)}, and {DOCUMENT_VERSION} is what"
            f" this package reads; upgrade it, or {REMEDY}"
        )
    try:
        return TypeAdapter(document).validate_python(fields)
    except ValidationError as error:
        raise InvalidArgument(f"{kind}: {invalid_record(error)}; {REMEDY}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; of a name that stands twice, readers of JSON differ in which they take."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise InvalidArgument(f"a name stands twice among {shown([name for name, _ in pairs])}")
    return fields
