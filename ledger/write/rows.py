"""A transaction as a row: what binary COPY sends, and what other drivers are given.

A batch is kept as rows, and of mappings no object is made: a record takes 5 us where objects
took 8. What Python does for each is added to COPY, which sends nothing before a batch is sorted.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import Table, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.base import PGDialect

from ledger.models.telemetry import LLMRequest
from ledger.records.transaction import Transaction
from ledger.records.values import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Row: TypeAlias = "tuple[Any, ...]"

REQUESTS: Final = LLMRequest.metadata.tables["ledger.llm_requests"]
COLUMNS: Final = tuple(column.name for column in REQUESTS.columns)
KEY_COLUMNS: Final = tuple(column.name for column in REQUESTS.primary_key)

# What COPY is told a column is, and where its value is found. Types that psycopg would turn into
# bytes by a call into Python for each value come as bytes, or as an integer of the same form.
_COPIED: Final = {
    "user_id": ("bytea", "user_id_bytes"),
    "timestamp": ("int8", "postgres_microseconds"),
    "id": ("bytea", "id_bytes"),
    "attributes": ("text", "attributes_jsonb"),
}
_COPY_TYPES: Final = {
    "TEXT": "text",
    "INTEGER": "int4",
    "SMALLINT": "int2",
    "BOOLEAN": "bool",
    "UUID": "uuid",
    "NUMERIC(24, 12)": "numeric",
}
_POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_USER, _TIME, _ID, _REQUEST_ID = map(COLUMNS.index, ("user_id", "timestamp", "id", "request_id"))


def _copied(column: str) -> tuple[str, str]:
    kind = REQUESTS.c[column].type.compile(PGDialect())  # type: ignore[no-untyped-call]
    return _COPIED.get(column) or (_COPY_TYPES[kind], column)


COPY_TYPES: Final = tuple(_copied(column)[0] for column in COLUMNS)
POSITION_TYPE: Final = "int8"

_COPIED_VALUES: Final = tuple(_copied(column)[1] for column in COLUMNS)

_row_of_values: Final[Callable[[dict[str, Any]], Row]] = itemgetter(*_COPIED_VALUES)
_row_of_attributes: Final[Callable[[Transaction], Row]] = attrgetter(*_COPIED_VALUES)


def row_of(record: object) -> Row:
    """The record as binary COPY sends it. Equal rows are the same to the last byte.

    Raises InvalidRecord for what is neither a transaction nor a mapping of a valid one.
    """
    if not isinstance(record, Transaction):
        return _row_of_values(values_of(record))
    try:
        return _row_of_values(record.__dict__)
    except KeyError:  # made by `model_construct`, which completes nothing
        return _row_of_attributes(record)


key: Final[Callable[[Row], tuple[bytes, bytes]]] = itemgetter(_USER, _ID)
"""The primary key, in its order: an id begins with the timestamp, which need not be named."""

microseconds: Final[Callable[[Row], int]] = itemgetter(_TIME)
"""When, in microseconds since 2000, as PostgreSQL counts them."""


def moment(microseconds: int) -> datetime:
    """The time (UTC) that PostgreSQL counts like this."""
    return _POSTGRES_EPOCH + timedelta(microseconds=microseconds)


def days(rows: Iterable[Row]) -> set[date]:
    """The days (UTC) of the rows."""
    numbers = {microseconds // 86_400_000_000 for microseconds in map(itemgetter(_TIME), rows)}
    return {(_POSTGRES_EPOCH + timedelta(days=number)).date() for number in numbers}


def called(row: Row) -> str:
    """What a person calls the row."""
    user = UUID(bytes=row[_USER])
    if row[_REQUEST_ID] is None:
        return f"id {UUID(bytes=row[_ID])} of user {user}"
    return f"request_id {row[_REQUEST_ID]!r} of user {user}"


_parameters: Final[Callable[[Transaction], tuple[Any, ...]]] = attrgetter(
    *("attributes_json" if column == "attributes" else column for column in COLUMNS)
)


def parameters(record: Transaction) -> dict[str, Any]:
    """The parameters of a statement about one transaction; attributes as JSON text."""
    return dict(zip(COLUMNS, _parameters(record), strict=True))


def arrays(rows: Sequence[Row], positions: Sequence[int] | None) -> dict[str, list[Any]]:
    """The parameters of a statement about many rows, an array a column."""
    columns = zip(*rows, strict=True)
    named = {name: list(values) for name, values in zip(COLUMNS, columns, strict=True)}
    for name in ("user_id", "id"):
        named[name] = [UUID(bytes=value) for value in named[name]]
    named["timestamp"] = list(map(moment, named["timestamp"]))
    named["attributes"] = [value[1:] for value in named["attributes"]]
    return named if positions is None else {**named, "position": list(positions)}


def sent_type(table: Table, column: str) -> Any:  # noqa: ANN401 - SQLAlchemy's types
    """The type in which a parameter travels: JSON as text, as it is dumped once, by Transaction."""
    kind = table.c[column].type
    return Text() if isinstance(kind, JSONB) else kind
