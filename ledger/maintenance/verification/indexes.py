"""The second task: every declared index is there, valid, as it is declared, and used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint, text

from ledger.maintenance.verification.differences import is_about_index, names_one
from ledger.maintenance.verification.findings import Finding, failure, warning
from ledger.maintenance.verification.sight import QUALIFIED, USAGE, Sight
from ledger.records.plain import Record

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

MILLION: Final = 1_000_000
FEWEST_ROWS: Final = 10_000
"""With fewer, half-empty pages are most of an index, and a table is read from end to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedAfter:
    """When it means something that an index was never used."""

    observed: timedelta
    rows: int


UNUSED_AFTER: Final = UnusedAfter(observed=timedelta(hours=24), rows=FEWEST_ROWS)
"""A dashboard that is looked at daily has used by then what it ever will."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """An index as the models have it."""

    name: str
    columns: tuple[str, ...]
    include: tuple[str, ...] = ()
    is_partial: bool = False
    is_of_constraint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState(Record):
    """An index as the server describes it."""

    name: str
    columns: tuple[str, ...]
    include: tuple[str, ...]
    where: str | None
    is_unique: bool
    is_valid: bool
    size_bytes: int
    idx_scan: int
    """How often it was used since ``statistics_since``."""
    idx_tup_read: int
    idx_tup_fetch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport(Record):
    """The indexes of the token usage ledger."""

    indexes: tuple[IndexState, ...]
    total_bytes: int
    bytes_per_million_rows: int | None
    """What they would take; None where there are too few rows to say."""
    statistics_since: datetime
    """When use was last counted from nothing, or may have been: at a server's start after a
    crash it is, without a trace."""
    findings: tuple[Finding, ...]


_INDEXES: Final = text(
    """
SELECT i.relname::text AS name,
  ARRAY(SELECT pg_get_indexdef(indexrelid, k, true)
      || CASE WHEN indoption[k - 1] & 1 = 1 THEN ' DESC' ELSE '' END
    FROM generate_series(1, indnkeyatts::integer) AS k ORDER BY k) AS columns,
  ARRAY(SELECT pg_get_indexdef(indexrelid, k, true)
    FROM generate_series(indnkeyatts + 1, indnatts::integer) AS k ORDER BY k) AS include,
  pg_get_expr(indpred, indrelid, true) AS "where", indisunique AS is_unique,
  indisvalid AND indisready AND indislive AS is_valid,
  pg_relation_size(indexrelid) AS size_bytes, coalesce(idx_scan, 0) AS idx_scan,
  coalesce(idx_tup_read, 0) AS idx_tup_read, coalesce(idx_tup_fetch, 0) AS idx_tup_fetch
FROM pg_index JOIN pg_class i ON i.oid = indexrelid
LEFT JOIN pg_stat_user_indexes s USING (indexrelid)
WHERE indrelid = to_regclass(:table) ORDER BY 1"""
)

_SINCE: Final = text(
    "SELECT now(), greatest(stats_reset, pg_postmaster_start_time())"
    " FROM pg_stat_database WHERE datname = current_database()"
)


def verify_indexes(
    connection: Connection,
    sight: Sight,
    differences: Sequence[Finding],
    rows: int | None,
    unused_after: UnusedAfter,
) -> IndexReport:
    """The indexes as they are, and what is wrong with them; ``rows`` are those of the table."""
    described = connection.execute(_INDEXES, {"table": QUALIFIED}).mappings()
    found = {row["name"]: _state(row) for row in described}
    now, since = (at.astimezone(UTC) for at in connection.execute(_SINCE).one())
    findings: list[Finding] = []
    told: list[str] = []
    is_telling = now - since >= unused_after.observed and (rows or 0) >= unused_after.rows
    for declared in declared_indexes() if sight.has_table else ():
        index = found.get(declared.name)
        if (wrong := _problem(declared, index)) is not None:
            told.append(declared.name)
            findings.append(failure(declared.name, wrong))
        elif index is not None and is_telling and _is_idle(declared, index):
            words = f"never used since {since:%Y-%m-%d %H:%M} UTC"
            findings.append(warning(declared.name, words))
    findings += [
        difference
        for difference in differences
        if is_about_index(difference) and not names_one(difference, told)
    ]
    total = sum(index.size_bytes for index in found.values())
    return IndexReport(
        indexes=tuple(found.values()),
        total_bytes=total,
        bytes_per_million_rows=(
            None if rows is None or rows < FEWEST_ROWS else round(total * MILLION / rows)
        ),
        statistics_since=since,
        findings=tuple(findings),
    )


def declared_indexes() -> Iterator[Declared]:
    """Those of constraints, and then the others by name."""
    for constraint in USAGE.constraints:
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
            yield Declared(
                name=str(constraint.name),
                columns=tuple(column.name for column in constraint.columns),
                is_of_constraint=True,
            )
    for index in sorted(USAGE.indexes, key=lambda index: str(index.name)):
        options = index.dialect_options["postgresql"]
        yield Declared(
            name=str(index.name),
            columns=tuple(column.name for column in index.columns),
            include=tuple(options["include"] or ()),
            is_partial=options["where"] is not None,
        )


def _problem(declared: Declared, found: IndexState | None) -> str | None:
    """What is wrong; whether WHERE says the same is for the comparison of definitions."""
    if found is None:
        return (
            f"the index is missing; it should be on {_written(declared.columns, declared.include)}"
        )
    if not found.is_valid:
        return "the index is INVALID: building it failed; drop it and build it again"
    if found.columns != declared.columns or found.include != declared.include:
        return (
            f"the index is on {_written(found.columns, found.include)};"
            f" it should be on {_written(declared.columns, declared.include)}"
        )
    if (found.where is not None) != declared.is_partial:
        return f"the index {'should be' if declared.is_partial else 'should not be'} partial"
    return None


def _is_idle(declared: Declared, found: IndexState) -> bool:
    """Whether it serves nothing: an index of a constraint serves each insert, uncounted."""
    return found.idx_scan == 0 and not declared.is_of_constraint


def _state(row: RowMapping) -> IndexState:
    return IndexState(**{**row, "columns": tuple(row["columns"]), "include": tuple(row["include"])})


def _written(columns: Sequence[str], include: Sequence[str]) -> str:
    covered = f" INCLUDE ({', '.join(include)})" if include else ""
    return f"({', '.join(columns)}){covered}"
