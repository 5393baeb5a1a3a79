"""Prices of one's own, from a file: one row a price, in the fields of `ModelPrice`.

| field | |
|---|---|
| `provider`, `model` | as calls are recorded |
| `service_tier` | `standard` where it is left out |
| `context_tokens_from` | of calls with at least so many input tokens; 0 where it is left out |
| `effective_from` | ISO 8601 with a time zone: `2026-03-01T00:00:00Z` |
| `is_withdrawn` | `true` ends the price before it, and has no rates |
| `input_usd_per_million`, `output_usd_per_million` | at least one of them |
| `cache_read_usd_per_million`, `cache_write_usd_per_million` | else billed like other input |
| `reasoning_usd_per_million` | else billed like other output |
| `source` | where the price is from: a page, a contract |

CSV has these names in its first line, in any order, and an empty cell where there is no value;
JSON is an array of objects.
"""

from __future__ import annotations

import csv
import json
import re
from contextlib import nullcontext
from dataclasses import fields
from decimal import Decimal
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from pydantic import TypeAdapter, ValidationError

from ledger.errors import InvalidArgument, InvalidRecord
from ledger.models.prices import RATES
from ledger.records.prices import ModelPrice
from ledger.records.refusal import invalid_record, refusal, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

_FIELDS: Final = tuple(field.name for field in fields(ModelPrice) if field.name != "id")
_REQUIRED: Final = ("provider", "model", "effective_from", "source")

_NUMBERS: Final = ("context_tokens_from", *RATES)
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")

_price: Final = TypeAdapter(ModelPrice)


def from_csv(path_or_file: str | PathLike[str] | TextIO) -> list[ModelPrice]:
    """The prices of a CSV file; all of them, or none.

    Raises InvalidRecord, which names the line, the field, the value and the rule, and
    InvalidArgument for a file that cannot be read.
    """
    with _opened(path_or_file) as file:
        return _prices(_csv_rows(file))


def from_json(path_or_file: str | PathLike[str] | TextIO) -> list[ModelPrice]:
    """The prices of a JSON file; all of them, or none.

    Raises InvalidRecord, which names the line in which the object begins, the field, the value
    and the rule, and InvalidArgument for a file that cannot be read.
    """
    with _opened(path_or_file) as file:
        return _prices(_json_rows(file))


def _opened(path_or_file: str | PathLike[str] | TextIO) -> AbstractContextManager[TextIO]:
    if not isinstance(path_or_file, str | PathLike):
        return nullcontext(path_or_file)
    try:
        # Spreadsheets write a byte order mark; csv reads line ends itself.
        return Path(path_or_file).open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise InvalidArgument(f"{path_or_file} cannot be read: {error.strerror}") from None


def _prices(rows: Iterator[tuple[int, dict[str, Any]]]) -> list[ModelPrice]:
    prices: list[ModelPrice] = []
    lines: dict[object, int] = {}
    try:
        for line, row in rows:
            price = _model_price(line, row)
            if price.key in lines:
                rule = f"has a price for the same moment in line {lines[price.key]}; leave one out"
                raise InvalidRecord(f"line {line}: {refusal('model', price.model, rule)}")
            lines[price.key] = line
            prices.append(price)
    except ArithmeticError:
        after = f"after line {max(lines.values(), default=0)}"
        raise InvalidRecord(f"{after}: has a number that no decimal holds") from None
    except UnicodeDecodeError as error:
        after = f"after line {max(lines.values(), default=0)}"
        raise InvalidRecord(f"{after}: is not UTF-8: {error.reason}") from None
    return prices


def _model_price(line: int, row: dict[str, Any]) -> ModelPrice:
    given = {name: value for name, value in row.items() if value is not None}
    try:
        _require_fields(given)
        return _price.validate_python(given)
    except ValidationError as error:
        raise InvalidRecord(f"line {line}: {invalid_record(error)}") from None
    except InvalidRecord as error:
        raise InvalidRecord(f"line {line}: {error}") from None


def _require_fields(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if name not in _FIELDS:
            raise refusal(name, value, f"is no field of a price; those are {', '.join(_FIELDS)}")
        # Else a number would be read as seconds since 1970, and an underscore as nothing.
        if name == "effective_from" and not _TIME.match(str(value)):
            raise refusal(name, value, "is no time with a zone, such as 2026-03-01T00:00:00Z")
        if name in _NUMBERS and "_" in str(value):
            raise refusal(name, value, "is no number")
    for name in _REQUIRED:
        if name not in given:
            raise InvalidRecord(f"{name} is missing, and every price has one")


def _csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(lines, strict=True)
    try:
        names = [name.strip() for name in next(reader, ())]
        if not names:
            raise InvalidRecord(f"line 1 is missing; it has the names {', '.join(_FIELDS)}")
        if twice := _repeated(names):
            raise InvalidRecord(f"line 1: has {twice} twice; leave one out")
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue  # spreadsheets write such rows after the last
            if len(cells) != len(names):
                rule = f"has {len(cells)} cells under {len(names)} names"
                raise InvalidRecord(f"line {reader.line_num}: {rule}")
            yield (
                reader.line_num,
                {name: cell or None for name, cell in zip(names, cells, strict=True)},
            )
    except csv.Error as error:
        raise InvalidRecord(f"line {reader.line_num}: is not CSV: {error}") from None


def _json_rows(file: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
    text = file.read()
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRecord(f"line {error.lineno}: is not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRecord(f"is JSON that cannot be read: {error}") from None
    if not isinstance(rows, list):
        raise InvalidRecord(f"line 1: {shown(rows)} is no array of prices")
    # Now that it is known to be one, object by object: each has a line and all of its names, and
    # a rate never passes through a float.
    decoder = json.JSONDecoder(parse_float=Decimal, object_pairs_hook=list)
    line, counted, position = 1, 0, text.index("[") + 1
    for row in rows:
        position = _between(text, position)
        line, counted = line + text.count("\n", counted, position), position
        if not isinstance(row, dict):
            raise InvalidRecord(f"line {line}: {shown(row)} is no object")
        pairs, position = decoder.raw_decode(text, position)
        if twice := _repeated([name for name, _ in pairs]):
            raise InvalidRecord(f"line {line}: has {twice} twice; leave one out")
        yield line, dict(pairs)


def _between(text: str, position: int) -> int:
    """Where the next object of an array begins."""
    while text[position] in " \t\r\n,":
        position += 1
    return position


def _repeated(names: Sequence[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)
