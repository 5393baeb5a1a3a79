"""The statement that compares some hours of both rollups with the raw rows they are made of.

One statement and so one snapshot: what it calls a difference was one at one moment, whatever
writers, refreshes and retention do meanwhile. Bounds are constants, so that other days are pruned.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    CTE,
    Boolean,
    Numeric,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    column,
    exists,
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP, array

from ledger.maintenance.awaiting import awaits_refresh
from ledger.maintenance.buckets import bucket_of
from ledger.maintenance.sketches import (
    SKETCH,
    are_same,
    latencies_counted,
    made_of_requests,
    made_of_sketches,
)
from ledger.models.telemetry import (
    HOUR_ROLLUP,
    KEYS,
    MEASURES,
    MINUTE_ROLLUP,
    TOUCHED,
    LLMRequest,
    materialized,
    rollup,
)
from ledger.queries.query import AnySelect
from ledger.settings import Storage
from ledger.window import HOUR

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import (
        ColumnElement,
        CompoundSelect,
        FromClause,
        SQLColumnExpression,
        Subquery,
    )
    from sqlalchemy.sql.selectable import NamedFromClause

    from ledger.ddl.rendering import Rendering

_MINUTE: Final = timedelta(minutes=1)
TOTALS: Final = "totals"
"""The ``level`` of the one row that is about the whole comparison."""


COMPARED_FROM: Final = bindparam("compared_from", type_=TIMESTAMP(timezone=True))
COMPARED_UNTIL: Final = bindparam("compared_until", type_=TIMESTAMP(timezone=True))
"""The hours that one execution of the statement compares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Whose hours to compare, in which database."""

    user_id: UUID | None
    storage: Storage
    rendering: Rendering

    def statement(self) -> CompoundSelect[Any]:
        """Rows of (level, bucket, user_id, provider, model, measure, raw, rollup, awaits_refresh).

        Of a sketch ``raw`` and ``rollup`` are how many latencies it counts; where it counts as
        many, but others, they are the same.
        And one of level `TOTALS`: the first hour whose raw rows are kept, in ``raw`` how many
        raw rows were compared, in ``rollup`` how many (hour, user) pairs were left out.
        """
        minutes = self._raw_minutes()
        hours = self._raw_hours(minutes)
        return union_all(
            self._totals(hours),
            self._differences(MINUTE_ROLLUP, minutes),
            self._differences(HOUR_ROLLUP, hours),
        ).order_by("bucket", "level", "user_id", "provider", "model", "measure")

    @property
    def _kept_from(self) -> ColumnElement[datetime]:
        """Retention may have moved on since the hours were chosen."""
        return func.greatest(
            COMPARED_FROM,
            select(func.ledger.raw_from(type_=TIMESTAMP(timezone=True))).scalar_subquery(),
            type_=TIMESTAMP(timezone=True),
        )

    def _is_compared(
        self, moment: SQLColumnExpression[Any], user_id: SQLColumnExpression[Any]
    ) -> ColumnElement[bool]:
        """Whether a row is in the hours and of the user, and its hour does not await a refresh."""
        conditions = [
            moment >= COMPARED_FROM,
            moment < COMPARED_UNTIL,
            moment >= self._kept_from,
        ]
        if self.user_id is not None:
            conditions.append(user_id == self.user_id)
        return and_(*conditions)

    def _is_rolled_up(
        self, bucket: SQLColumnExpression[Any], user_id: SQLColumnExpression[Any]
    ) -> ColumnElement[bool]:
        """Plain PostgreSQL: whether reads take the hour from the rollups, and not from raw rows."""
        if self.storage is Storage.TIMESCALE:
            return true()
        return ~exists().where(
            TOUCHED.c.hour == bucket_of(bucket, HOUR), TOUCHED.c.user_id == user_id
        )

    def _raw_minutes(self) -> CTE:
        requests = LLMRequest
        is_counted = self._is_compared(requests.timestamp, requests.user_id)
        grouped = (
            select(
                bucket_of(requests.timestamp, _MINUTE).label("bucket"),
                *(getattr(requests, key) for key in KEYS),
                *(literal_column(sql).label(measure) for measure, sql in MEASURES.items()),
                made_of_requests(self.rendering),
            )
            .where(is_counted)
            .group_by("bucket", *(getattr(requests, key) for key in KEYS))
            .subquery("grouped")
        )
        return (
            select(grouped)
            .where(self._is_rolled_up(grouped.c.bucket, grouped.c.user_id))
            .cte("raw_minutes")
        )

    def _raw_hours(self, minutes: CTE) -> CTE:
        return (
            select(
                bucket_of(minutes.c.bucket, HOUR).label("bucket"),
                *(minutes.c[key] for key in KEYS),
                *(func.sum(minutes.c[measure]).label(measure) for measure in MEASURES),
                made_of_sketches(self.rendering),
            )
            .group_by(literal_column("1"), *(minutes.c[key] for key in KEYS))
            .cte("raw_hours")
        )

    def _totals(self, hours: CTE) -> AnySelect:
        left_out = select(literal(0))
        if self.storage is Storage.POSTGRES:
            pairs = (
                select(TOUCHED.c.hour, TOUCHED.c.user_id)
                .where(self._is_compared(TOUCHED.c.hour, TOUCHED.c.user_id))
                .distinct()
                .subquery("pairs")
            )
            left_out = select(func.count()).select_from(pairs)
        requests = select(func.coalesce(func.sum(hours.c.requests), 0))
        return select(
            literal(TOTALS, Text).label("level"),
            self._kept_from.label("bucket"),
            cast(null(), Uuid).label("user_id"),
            cast(null(), Text).label("provider"),
            cast(null(), Text).label("model"),
            cast(null(), Text).label("measure"),
            cast(requests.scalar_subquery(), Numeric).label("raw"),
            cast(left_out.scalar_subquery(), Numeric).label("rollup"),
            false().label("awaits_refresh"),
        )

    def _differences(self, level: str, raw: CTE) -> AnySelect:
        source = rollup(materialized(level, self.storage), self.rendering.percentiles).alias(
            "source"
        )
        rolled = (
            select(source)
            .where(
                self._is_compared(source.c.bucket, source.c.user_id),
                self._is_rolled_up(source.c.bucket, source.c.user_id),
            )
            .subquery("rolled")
        )
        made = raw.alias(f"made_{level}")
        is_same_group = and_(*(made.c[key] == rolled.c[key] for key in ("bucket", *KEYS)))
        measures = self._side_by_side(made, rolled)
        is_on_both_sides = and_(made.c.requests.is_not(None), rolled.c.requests.is_not(None))
        bucket = func.coalesce(made.c.bucket, rolled.c.bucket, type_=TIMESTAMP(timezone=True))
        return (
            select(
                literal(level, Text).label("level"),
                bucket.label("bucket"),
                *(func.coalesce(made.c[key], rolled.c[key]).label(key) for key in KEYS),
                measures.c.measure,
                measures.c.raw,
                measures.c.rollup,
                awaits_refresh(bucket, self.storage).label("awaits_refresh"),
            )
            .select_from(made.join(rolled, is_same_group, full=True).join(measures, true()))
            .where(
                or_(measures.c.raw.is_distinct_from(measures.c.rollup), measures.c.holds_others),
                or_(is_on_both_sides, measures.c.measure == "requests"),
            )
        )

    def _side_by_side(self, raw: FromClause, rolled: Subquery) -> NamedFromClause:
        """A row a measure of the group: its name, and the value on either side."""
        names = [*MEASURES, SKETCH]
        is_same = are_same(raw.c[SKETCH], rolled.c[SKETCH], self.rendering)
        # Counted only where it has to be: that takes longer than all else.
        counted = case((is_same, raw.c.requests), else_=latencies_counted(rolled, self.rendering))
        of_raw = [*(raw.c[measure] for measure in MEASURES), raw.c.requests]
        of_rollup = [*(rolled.c[measure] for measure in MEASURES), counted]
        return (
            func.unnest(
                array([literal(name, Text) for name in names]),
                array([cast(value, Numeric) for value in of_raw]),
                array([cast(value, Numeric) for value in of_rollup]),
                array([*(false() for _ in MEASURES), ~is_same]),
            )
            .table_valued(
                column("measure", Text),
                column("raw", Numeric),
                column("rollup", Numeric),
                column("holds_others", Boolean),
                name="measures",
            )
            .render_derived()
        )
