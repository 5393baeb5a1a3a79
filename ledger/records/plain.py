"""Results as plain values that JSON can hold without loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A result that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Money as decimal text, times as ISO 8601 in UTC, days as ISO 8601."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}


def plain(value: object) -> Any:  # noqa: ANN401, PLR0911 - one return a type that JSON lacks
    """The value in the types of JSON; exact, so decimals and times become text."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Decimal():
            return _decimal_text(value)
        case timedelta():
            return value.total_seconds()
        case UUID():
            return str(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            return value


def _decimal_text(value: Decimal) -> str:
    """All digits, no exponent, no zeros that say nothing: 12.5, not 12.500000000000."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
