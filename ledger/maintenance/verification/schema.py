"""The first task: the token usage ledger has every column, of the type that is declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from ledger.maintenance.verification.differences import is_about_index, names_one
from ledger.maintenance.verification.findings import Finding, failure
from ledger.maintenance.verification.sight import QUALIFIED, TABLE, USAGE, Sight
from ledger.records.plain import Record

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection, Dialect

FEWEST_COLUMNS: Final = 26

PURPOSES: Final = {
    "id": "names the row, and holds the moment of the call",
    "request_id": "the caller's name of the call, unique for each user: it is billed once",
    "user_id": "who is charged",
    "model_id": "the model that was asked for",
    "provider_id": "who served it",
    "vendor_cost": "US dollars that the provider asks",
    "credits_deducted": "credits that the user paid",
    "margin_multiplier": "what the user's tier makes of the cost",
    "gross_margin_usd": "the charge less the cost",
    "status": "success, failed or cancelled",
    "created_at": "when the call was made",
    "input_tokens": "tokens of the prompt, cached ones included",
    "output_tokens": "tokens of the answer, reasoning included",
}
"""The fields without which no margin can be told, and what each is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnState(Record):
    """A declared column as it is in the database."""

    name: str
    type: str
    """As declared, in the server's words."""
    found: str | None
    """As it is there; None where it is missing."""
    is_as_declared: bool
    """Whether it is there, and of its type."""
    purpose: str | None
    """What margins need it for; None of the columns beyond those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaReport(Record):
    """The token usage ledger as a table."""

    has_table: bool
    column_count: int
    fewest_columns: int
    columns: tuple[ColumnState, ...]
    """The declared ones, first those that margins need."""
    findings: tuple[Finding, ...]


_COLUMNS: Final = text(
    "SELECT attname::text, format_type(atttypid, atttypmod)"
    " || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END"
    " FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped"
)


def verify_schema(
    connection: Connection, sight: Sight, differences: Sequence[Finding]
) -> SchemaReport:
    """The columns as they are, and all differences but those of indexes."""
    rows = connection.execute(_COLUMNS, {"table": QUALIFIED})
    found: dict[str, str] = {row[0]: row[1] for row in rows}
    declared = {column.name: column for column in USAGE.columns}
    ordered = [*PURPOSES, *(name for name in declared if name not in PURPOSES)]
    types = {name: _type_of(declared[name], connection.dialect) for name in declared}
    columns = tuple(
        ColumnState(
            name=name,
            type=types[name],
            found=found.get(name),
            is_as_declared=found.get(name) == types[name],
            purpose=PURPOSES.get(name),
        )
        for name in ordered
    )
    wrong = [column for column in columns if sight.has_table and not column.is_as_declared]
    findings = [failure(TABLE, _said_of(column)) for column in wrong]
    if not sight.has_table:
        findings.append(failure(TABLE, "the table is missing"))
    elif len(found) < FEWEST_COLUMNS:
        findings.append(
            failure(TABLE, f"{len(found)} columns, and at least {FEWEST_COLUMNS} are needed")
        )
    told = [column.name for column in wrong]
    findings += [
        difference
        for difference in differences
        if (sight.has_table or difference.about != TABLE)
        and not names_one(difference, told)
        and not is_about_index(difference)
    ]
    return SchemaReport(
        has_table=sight.has_table,
        column_count=len(found),
        fewest_columns=FEWEST_COLUMNS,
        columns=columns,
        findings=tuple(findings),
    )


def _type_of(column: Column[Any], dialect: Dialect) -> str:
    written = column.type.compile(dialect=dialect).lower().replace(", ", ",")
    return written if column.nullable else f"{written} NOT NULL"


def _said_of(column: ColumnState) -> str:
    if column.found is None:
        return f"the column {column.name} is missing; it should be {column.type}"
    return f"the column {column.name} is {column.found}; it should be {column.type}"
