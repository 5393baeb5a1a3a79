"""The third task: what there is to ask about, and how much of it.

Every row is counted while that takes about a second; of a larger table a share of the pages is,
spread over all of it. Corrections, first and last come by index, exact whatever the size.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    REAL,
    BigInteger,
    Select,
    bindparam,
    cast,
    column,
    func,
    literal,
    not_,
    select,
    table,
    tablesample,
    text,
    union_all,
)
from sqlalchemy.exc import DBAPIError

from ledger.ddl.running_sums import MOST_FOLDED
from ledger.maintenance.verification.findings import Finding, failure, warning
from ledger.maintenance.verification.sight import QUALIFIED, TABLE, USAGE, Sight
from ledger.models.base import SCHEMA
from ledger.models.billing_sums import DELTAS
from ledger.records.plain import Record

if TYPE_CHECKING:
    from sqlalchemy import Connection

COUNTED_PAGES: Final = 50_000
"""390 MB, some 1.5 million calls."""

_MADE: Final = USAGE.c.kind == literal("usage", literal_execute=True)
_SUCCEEDED: Final = USAGE.c.status == literal("success", literal_execute=True)
_PAGES: Final = text(
    "SELECT pg_relation_size(to_regclass(:table)) / current_setting('block_size')::bigint"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup(Record):
    """How many rows are of one kind, and priced in one way."""

    kind: str
    pricing_status: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport(Record):
    """What the token usage ledger holds; None is what this role may not count."""

    rows: int | None
    is_exact: bool
    """Whether every call was counted; else about 50,000 pages of them were, and the rest
    estimated from those. Corrections always are."""
    groups: tuple[RowGroup, ...]
    first_created_at: datetime | None
    last_created_at: datetime | None
    unfolded_deltas: int | None
    findings: tuple[Finding, ...]

    def by(self, name: str) -> dict[str, int]:
        """Rows by ``kind`` or ``pricing_status``, the most first."""
        counts: Counter[str] = Counter()
        for group in self.groups:
            counts[getattr(group, name)] += group.rows
        return dict(counts.most_common())


def verify_data(
    connection: Connection, sight: Sight, *, counted_pages: int = COUNTED_PAGES
) -> DataReport:
    """What is there, as far as the role may see it. No data is a warning."""
    if not sight.has_table:
        return _nothing(failure("data", "not counted: the table is missing"))
    if not sight.counts_rows:
        why = f"not counted: the role {sight.role} does not see every row of {TABLE}"
        return _nothing(warning("data", f"{why}; an auditor, a service and the owner do"))
    try:
        with connection.begin_nested():
            return _counted(connection, sight, counted_pages)
    except DBAPIError as error:
        return _nothing(failure("data", f"cannot be counted: {str(error.orig).splitlines()[0]}"))


def _nothing(finding: Finding) -> DataReport:
    return DataReport(
        rows=None,
        is_exact=False,
        groups=(),
        first_created_at=None,
        last_created_at=None,
        unfolded_deltas=None,
        findings=(finding,),
    )


def _counted(connection: Connection, sight: Sight, counted_pages: int) -> DataReport:
    pages: int = connection.scalar(_PAGES, {"table": QUALIFIED}) or 0
    share = min(1.0, counted_pages / max(pages, 1))
    counted = connection.execute(_GROUPS, {"percent": 100 * share, "weight": 1 / share})
    groups = tuple(RowGroup(**row) for row in counted.mappings())
    first, last = (end and end.astimezone(UTC) for end in connection.execute(_ENDS).one())
    deltas = connection.scalar(_DELTAS) if sight.reads_deltas else None
    rows = sum(group.rows for group in groups)
    findings = []
    if not rows:
        findings.append(warning("data", f"no data: {TABLE} has no rows yet"))
    if deltas is not None and deltas > MOST_FOLDED:
        words = f"{deltas:,} sums of single inserts wait to be folded; run `ledger maintain`"
        findings.append(warning(DELTAS, words))
    return DataReport(
        rows=rows,
        is_exact=share == 1,
        groups=groups,
        first_created_at=first,
        last_created_at=last,
        unfolded_deltas=deltas,
        findings=tuple(findings),
    )


def _groups() -> Select[tuple[str, str, int]]:
    sampled = tablesample(USAGE, func.system(cast(bindparam("percent"), REAL)))
    weighed = cast(func.round(func.count() * bindparam("weight")), BigInteger)
    parts = union_all(
        select(sampled.c.kind, sampled.c.pricing_status, weighed.label("rows"))
        .where(sampled.c.kind == "usage")
        .group_by(sampled.c.kind, sampled.c.pricing_status),
        # Few, and of their own index: a sample could miss them all.
        select(USAGE.c.kind, USAGE.c.pricing_status, func.count())
        .where(not_(_MADE))
        .group_by(USAGE.c.kind, USAGE.c.pricing_status),
    ).subquery()
    return select(*parts.c).order_by(parts.c.rows.desc(), parts.c.kind, parts.c.pricing_status)


def _ends() -> Select[tuple[datetime | None, datetime | None]]:
    """The first and the last moment, each from the ends of three indexes."""
    parts = [
        select(
            func.min(USAGE.c.created_at).label("first"),
            func.max(USAGE.c.created_at).label("last"),
        ).where(which)
        for which in (_MADE & _SUCCEEDED, _MADE & not_(_SUCCEEDED), not_(_MADE))
    ]
    ends = union_all(*parts).subquery()
    return select(func.min(ends.c.first).label("first"), func.max(ends.c.last).label("last"))


_GROUPS: Final = _groups()
_ENDS: Final = _ends()
_DELTAS: Final = select(func.count()).select_from(table(DELTAS, column("hour"), schema=SCHEMA))
