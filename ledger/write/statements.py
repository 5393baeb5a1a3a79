"""The statements that write transactions and find out what became of them.

A role that may only insert can execute all of them: ON CONFLICT names no target and nothing is
RETURNed, as both need SELECT on the table.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Date,
    Executable,
    FromClause,
    Interval,
    MetaData,
    Select,
    Table,
    Text,
    bindparam,
    case,
    cast,
    column,
    func,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP, array, insert
from sqlalchemy.schema import CreateTable

from ledger.models.base import SCHEMA
from ledger.write.rows import COLUMNS, KEY_COLUMNS, REQUESTS, sent_type

if TYPE_CHECKING:
    from sqlalchemy.sql.elements import ColumnElement

_ledger = getattr(func, SCHEMA)

STAGE: Final = Table(
    "llm_requests_stage",
    MetaData(schema="pg_temp"),
    *(Column(name, REQUESTS.c[name].type) for name in COLUMNS),
    Column("position", BigInteger),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
"""Rows of one batch before they are merged. Not LIKE llm_requests, which needs SELECT on it."""

MAKE_STAGE: Final[Executable] = CreateTable(STAGE, if_not_exists=True)
EMPTY_STAGE: Final[Executable] = text("TRUNCATE pg_temp.llm_requests_stage")
"""A caller's transaction may stage many batches, and keeps what a DELETE leaves till its end."""

CLOCK: Final = select(
    # Not now(): a caller's transaction may be older than the records it writes.
    func.clock_timestamp().label("now"),
    # A driver's datetime has no -infinity.
    func.nullif(
        _ledger.raw_from(),
        literal_column("'-infinity'::timestamptz"),
        type_=TIMESTAMP(timezone=True),
    ).label("raw_from"),
)

ENSURE_DAYS: Final = select(
    _ledger.ensure_days(cast(bindparam("days", type_=ARRAY(Date)), ARRAY(Date)))
)

_given = select(
    *(
        cast(bindparam(name, type_=sent_type(REQUESTS, name)), REQUESTS.c[name].type).label(name)
        for name in COLUMNS
    ),
    literal_column("0").label("position"),
).subquery("given")
_stage = STAGE.alias("stage")

INSERT_ONE: Final = (
    insert(REQUESTS)
    .from_select(
        COLUMNS,
        select(*(_given.c[name] for name in COLUMNS)).where(
            _given.c.timestamp >= _ledger.raw_from(),
            _given.c.timestamp
            <= func.clock_timestamp() + cast(bindparam("tolerance", type_=Interval), Interval),
        ),
    )
    .on_conflict_do_nothing()
    .execution_options(preserve_rowcount=True)
)
"""One row, unless its key is stored or its time is not accepted: one round trip for both."""

MERGE_STAGE: Final = (
    insert(REQUESTS)
    .from_select(
        COLUMNS,
        select(*(_stage.c[name] for name in COLUMNS)).order_by(
            # The order of the primary key: two writers of the same keys would deadlock.
            *(_stage.c[name] for name in KEY_COLUMNS),
            _stage.c.position,
        ),
    )
    .on_conflict_do_nothing()
    .execution_options(preserve_rowcount=True)
)


@cache
def load_arrays(table: Table) -> Executable:
    """Insert rows that come as an array a column, for drivers without a COPY of ours."""
    names = [column.name for column in table.columns]
    rows = (
        func.unnest(
            *(
                cast(bindparam(name, type_=ARRAY(kind)), ARRAY(kind))
                for name, kind in ((name, sent_type(table, name)) for name in names)
            )
        )
        .table_valued(*(column(name, sent_type(table, name)) for name in names))
        .render_derived(name="rows")
    )
    values = (
        cast(rows.c[name], JSONB) if isinstance(table.c[name].type, JSONB) else rows.c[name]
        for name in names
    )
    return insert(table).from_select(names, select(*values))


def _comparison(given: FromClause) -> Select[Any]:
    """Which given rows are not stored, or with other content: position, is_stored, differing.

    To be executed after the insert, as a statement of its own: only then is the row in its way
    visible.
    """
    keys = select(*(func.array_agg(given.c[name]).label(name) for name in KEY_COLUMNS)).cte("keys")
    found = _ledger.requests_by_key(*(keys.c[name] for name in KEY_COLUMNS)).table_valued(
        *(column(name, REQUESTS.c[name].type) for name in COLUMNS), name="found"
    )
    stored = (
        select(*(found.c[name] for name in COLUMNS))
        .select_from(keys.join(found, true()))
        .cte("stored")
    )
    differences: list[tuple[str, ColumnElement[bool]]] = [
        (name, stored.c[name].is_distinct_from(given.c[name]))
        for name in COLUMNS
        if name not in KEY_COLUMNS
    ]
    same_key = [stored.c[name] == given.c[name] for name in KEY_COLUMNS]
    is_stored = stored.c.id.is_not(None)
    differing = func.array_remove(
        array(
            [case((differs, literal_column(f"'{name}'", Text))) for name, differs in differences]
        ),
        None,
        type_=ARRAY(Text),
    )
    compared = (
        select(
            given.c.position.label("position"),
            is_stored.label("is_stored"),
            differing.label("differing"),
        )
        .select_from(given.outerjoin(stored, same_key[0] & same_key[1] & same_key[2]))
        .subquery("compared")
    )
    return (
        select(compared)
        .where(~compared.c.is_stored | (func.cardinality(compared.c.differing) > 0))
        .order_by(compared.c.position)
    )


COMPARE_ONE: Final = _comparison(_given)
COMPARE_STAGE: Final = _comparison(_stage)
