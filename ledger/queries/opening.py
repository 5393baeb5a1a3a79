"""What a statement sees of its database: how it is installed, its clock, how far rollups are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
    Label,
    SQLColumnExpression,
    Text,
    cast,
    exists,
    extract,
    func,
    literal,
    select,
    true,
)

from ledger.errors import SchemaNotReady
from ledger.models.installation import Installation, RollupProgress
from ledger.models.latency import BINS_VERSION
from ledger.models.telemetry import TOUCHED, LLMRequest
from ledger.queries.query import AnySelect, Cells, Context
from ledger.records.installation import Horizon, Installed
from ledger.settings import Percentiles, Storage

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE: Final = LLMRequest.__tablename__

_MOMENT: Final = DateTime(timezone=True)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEGINNING: Final = "-infinity"


def finite(moment: SQLColumnExpression[Any]) -> ColumnElement[datetime | None]:
    """The moment, or NULL for -infinity, which no Python driver but asyncpg can read."""
    return func.nullif(moment, cast(literal(_BEGINNING), _MOMENT), type_=_MOMENT)


INSTALLED: Final[AnySelect] = select(
    Installation.storage, Installation.percentiles, Installation.bins_version
)
"""How the database is installed, for those who need no more."""


def seen(storage: Storage | None = None) -> CTE:
    """One row, ``standing`` and ``now``, which ``context()`` reads.

    They are repeated in every row of an answer and read once, so they are a text and a number;
    materialised, or they would be computed as often. Where the storage is not known yet, they
    do not say whether rolled up hours have got rows since.
    """
    columns: list[Label[Any]] = [
        Installation.storage.label("storage"),
        Installation.percentiles.label("percentiles"),
        Installation.bins_version.label("bins_version"),
        func.ledger.raw_from(type_=_MOMENT).label("raw_from"),
        RollupProgress.watermark.label("watermark"),
    ]
    if storage is Storage.POSTGRES:
        late = exists().where(
            TOUCHED.c.hour >= RollupProgress.raw_from, TOUCHED.c.hour < RollupProgress.watermark
        )
        columns.append(late.label("has_late_hours"))
    named = [part for column in columns for part in (literal(column.name), column.element)]
    # Not now(): in a caller's transaction that is when it began, and what the caller has
    # written since would lie in the future.
    microseconds = extract("epoch", func.statement_timestamp(type_=_MOMENT)) * 1_000_000
    return (
        select(
            cast(func.json_build_object(*named), Text).label("standing"),
            cast(microseconds, BigInteger).label("now"),
        )
        .select_from(Installation)
        .join(RollupProgress, true())
        .where(RollupProgress.source == SOURCE)
        .cte("seen")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )


OPENING: Final[AnySelect] = select(*seen().c)
"""What is asked before the first read of a connection, to know what to ask."""


SEEN_WIDTH: Final = len(OPENING.selected_columns)
"""How many columns of a row say so."""


def context(rows: Sequence[Cells]) -> Context:
    """What the first of a statement's rows says. Raises SchemaNotReady where there is none."""
    if not rows:
        raise SchemaNotReady
    standing, now, *_ = rows[0]
    how, raw_from, watermark, has_late_hours = _standing(standing)
    return Context(
        installed=how,
        horizon=Horizon(
            now=_EPOCH + timedelta(microseconds=now),
            raw_from=raw_from,
            watermark=watermark,
            has_late_hours=has_late_hours,
        ),
    )


def installed(rows: Sequence[Cells]) -> Installed:
    """How the database is installed. Raises SchemaNotReady where it is not, or otherwise."""
    if not rows:
        raise SchemaNotReady
    return _installed(*rows[0])


@lru_cache(maxsize=64)
def _standing(written: str) -> tuple[Installed, datetime | None, datetime | None, bool]:
    """Remembered, as it stays the same for an hour."""
    found = json.loads(written)
    return (
        _installed(found["storage"], found["percentiles"], found["bins_version"]),
        _moment(found["raw_from"]),
        _moment(found["watermark"]),
        found.get("has_late_hours", False),
    )


def _installed(storage: str, percentiles: str, bins_version: int) -> Installed:
    if bins_version != BINS_VERSION:
        raise SchemaNotReady(
            f"the database keeps latencies in bins of version {bins_version}, and this package"
            f" reads version {BINS_VERSION};"
            + (
                " run `ledger db upgrade`"
                if bins_version < BINS_VERSION
                else " install a newer llm-ledger"
            )
        )
    return Installed(
        storage=Storage(storage), percentiles=Percentiles(percentiles), bins_version=bins_version
    )


def _moment(written: str) -> datetime | None:
    return None if written == _BEGINNING else datetime.fromisoformat(written).astimezone(UTC)
