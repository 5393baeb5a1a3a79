"""The round trip before each read: how the database is installed, and how far its rollups are."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Label,
    SQLColumnExpression,
    case,
    cast,
    func,
    literal,
    select,
    true,
)

from ledger.errors import SchemaNotReady
from ledger.models.installation import Installation, RollupProgress
from ledger.models.latency import BINS_VERSION
from ledger.models.telemetry import LLMRequest
from ledger.queries.query import AnyRow, AnySelect, Context
from ledger.records.installation import Horizon, Installed
from ledger.settings import Percentiles, Storage

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE: Final = LLMRequest.__tablename__

_MOMENT: Final = DateTime(timezone=True)


def finite(moment: SQLColumnExpression[Any]) -> ColumnElement[datetime | None]:
    """The moment, or NULL for -infinity, which no Python driver but asyncpg can read."""
    return func.nullif(moment, cast(literal("-infinity"), _MOMENT), type_=_MOMENT)


INSTALLED: Final[AnySelect] = select(
    Installation.storage, Installation.percentiles, Installation.bins_version
)
"""How the database is installed, for those who need no more."""


@lru_cache
def opening(*, tuned: bool) -> AnySelect:
    """One row: how the database is installed, its clock, and its horizon.

    ``tuned`` also settles, for the transaction alone, how the read is planned: a parallel
    Gather on the nearly empty tail costs 9 ms and JIT more; a generic plan on TimescaleDB
    locks every chunk.
    """
    columns: list[Label[Any]] = [
        Installation.storage.label("storage"),
        Installation.percentiles.label("percentiles"),
        Installation.bins_version.label("bins_version"),
        # Not now(): in a caller's transaction that is when it began, and what the caller has
        # written since would lie in the future.
        func.clock_timestamp(type_=_MOMENT).label("now"),
        finite(func.ledger.raw_from(type_=_MOMENT)).label("raw_from"),
        finite(RollupProgress.watermark).label("watermark"),
    ]
    if tuned:
        columns += [
            _set_locally("max_parallel_workers_per_gather", "0").label("parallel"),
            _set_locally("jit", "off").label("jit"),
            case(
                (
                    Installation.storage == Storage.TIMESCALE.value,
                    _set_locally("plan_cache_mode", "force_custom_plan"),
                )
            ).label("plans"),
        ]
    return (
        select(*columns)
        .select_from(Installation)
        .join(RollupProgress, true())
        .where(RollupProgress.source == SOURCE)
    )


def context(rows: Sequence[AnyRow]) -> Context:
    """What the opening's row says. Raises SchemaNotReady where there is none."""
    how = installed(rows)
    row = rows[0]
    return Context(
        installed=how,
        horizon=Horizon(
            now=row.now.astimezone(UTC),
            raw_from=None if row.raw_from is None else row.raw_from.astimezone(UTC),
            watermark=None if row.watermark is None else row.watermark.astimezone(UTC),
        ),
    )


def installed(rows: Sequence[AnyRow]) -> Installed:
    """How the database is installed. Raises SchemaNotReady where it is not, or otherwise."""
    if not rows:
        raise SchemaNotReady
    storage, percentiles, bins_version = rows[0][:3]
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


def _set_locally(setting: str, value: str) -> ColumnElement[str]:
    return func.set_config(setting, value, literal(value=True))
