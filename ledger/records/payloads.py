"""JSON of the caller's as the text that is stored: exact, bounded, and nothing else than sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

from msgspec.json import Encoder

from ledger.records.refusal import refusal

Json: TypeAlias = "bool | int | float | Decimal | str | Sequence[Json] | Mapping[str, Json] | None"
"""What JSON holds; a Decimal keeps each of its digits, a float those that repr() shows."""

MOST_PAYLOAD_BYTES: Final = 1024 * 1024
MOST_LEVELS: Final = 100
MOST_DIGITS: Final = 1_000
"""Before the decimal point, or after it: 1E+100000 is seven characters, and 100 kB once stored."""

# The standard library makes floats of Decimals, and takes thirty times as long.
_ENCODER: Final = Encoder(decimal_format="number")


def json_text(field: str, value: Mapping[str, Json], most_bytes: int = MOST_PAYLOAD_BYTES) -> str:
    """The object as JSON text, numbers with the digits that they were given.

    Raises InvalidRecord for what JSON or PostgreSQL's jsonb does not hold, naming where it is.
    """
    return encoded(field, checked(field, value), most_bytes)


def checked(field: str, value: object) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The value in JSON's types. Raises InvalidRecord for what JSON or jsonb does not hold."""
    try:
        return _checked(value, 0)
    except _Unfit as error:
        raise refusal(field + "".join(reversed(error.path)), error.value, error.rule) from None


def encoded(field: str, value: Mapping[str, Json], most_bytes: int = MOST_PAYLOAD_BYTES) -> str:
    """What was checked, as JSON text. Raises InvalidRecord for what is too long."""
    try:
        text = _ENCODER.encode(value)
    except ValueError:  # a whole number of more digits than Python writes
        raise refusal(field, value, "holds a number of more digits than Python writes") from None
    if len(text) > most_bytes:
        rule = f"{len(text):,} bytes as JSON, over the limit of {most_bytes:,}"
        raise refusal(field, value, rule)
    return text.decode()


def json_value(text: str) -> Any:  # noqa: ANN401 - whatever it holds
    """What a stored JSON text holds; a number with a fraction or an exponent is a Decimal."""
    return json.loads(text, parse_float=Decimal)


def as_floats(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """What was read, in the types that the standard library writes as JSON.

    A Decimal is a float where that is the same number, 0.7 say; one of more digits than a float
    has is text, as it would be another number.
    """
    if isinstance(value, Decimal):
        number = float(value)
        return number if Decimal(repr(number)) == value else format(value, "f")
    if isinstance(value, dict):
        return {name: as_floats(each) for name, each in value.items()}
    return [as_floats(each) for each in value] if isinstance(value, list) else value


class _Unfit(Exception):
    """A value that is not stored as it is, and the way to it, the last step first."""

    def __init__(self, value: object, rule: str) -> None:
        self.value, self.rule = value, rule
        self.path: list[str] = []


def _checked(value: object, level: int) -> object:
    """The value in the types that are written as they are, all the way down."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if level > MOST_LEVELS:
        raise _Unfit(value, f"nested more than {MOST_LEVELS} levels deep")
    if isinstance(value, Mapping):
        return _mapping(value, level + 1)
    if isinstance(value, (list, tuple)):
        return _list(value, level + 1)
    if isinstance(value, (float, Decimal)):
        return _number(value)
    rule = "is not a JSON value; use text, numbers, booleans, None, lists and mappings"
    raise _Unfit(value, rule)


def _mapping(values: Mapping[Any, object], level: int) -> dict[str, object]:
    checked: dict[str, object] = {}
    for key, value in values.items():
        try:
            checked[_key(key)] = _checked(value, level)
        except _Unfit as error:
            shown = str(key).replace("\0", r"\x00").encode(errors="backslashreplace").decode()
            error.path.append(f".{shown}")
            raise
    return checked


def _list(values: Sequence[object], level: int) -> list[object]:
    checked: list[object] = []
    for place, value in enumerate(values):
        try:
            checked.append(_checked(value, level))
        except _Unfit as error:
            error.path.append(f"[{place}]")
            raise
    return checked


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise _Unfit(key, "is not text, as the keys of JSON are")
    return _text(key)


def _text(text: str) -> str:
    text = str.__str__(text)  # as it is, also where a subclass shows itself otherwise
    if "\0" in text:
        raise _Unfit(text, "holds a NUL character, which PostgreSQL cannot store")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _Unfit(text, "is not Unicode text; it holds a lone surrogate")
    return text


def _number(number: float | Decimal) -> float | Decimal:
    exact = Decimal(number) if isinstance(number, Decimal) else Decimal(float.__repr__(number))
    exponent = exact.as_tuple().exponent
    if not isinstance(exponent, int):  # a letter, of what is not finite
        raise _Unfit(number, "is not a number that JSON has")
    if exact.adjusted() >= MOST_DIGITS or exponent < -MOST_DIGITS:
        rule = f"more than {MOST_DIGITS:,} digits before or after the decimal point"
        raise _Unfit(number, rule)
    return exact if isinstance(number, Decimal) else float(number)
