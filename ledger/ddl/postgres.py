"""How PostgreSQL without an extension gets what the ledger asks for."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING

from ledger.ddl import (
    partitions,
    portable,
    rollup_refresh,
    rollup_tables,
    touch_log,
    wishes,
)
from ledger.ddl.facts import Fact, Holds, RoutineIs, TableIs, TriggerIs, ViewIs, routine_facts
from ledger.ddl.objects import (
    Columnstore,
    CoveringIndex,
    Refresh,
    Retention,
    Rollup,
    TimeSeries,
)
from ledger.ddl.routines import create_routine, drop_routine
from ledger.ddl.steps import Step, literal

if TYPE_CHECKING:
    from ledger.ddl.rendering import Rendering


@singledispatch
def create(target: object, rendering: Rendering) -> list[Step]:
    """The steps that make the object, or make it again as it should be."""
    return portable.create(target, rendering)


@singledispatch
def drop(target: object, rendering: Rendering) -> list[Step]:
    """The steps that take the object away."""
    return portable.drop(target, rendering)


@singledispatch
def facts(target: object, rendering: Rendering) -> list[Fact]:
    """What can be seen to hold where the object is there and as it should be."""
    return portable.facts(target, rendering)


@create.register(TimeSeries)
def _(target: TimeSeries, rendering: Rendering) -> list[Step]:
    return partitions.create_time_series(target)


@drop.register(TimeSeries)
def _(target: TimeSeries, rendering: Rendering) -> list[Step]:
    return partitions.drop_time_series(target.name)


@create.register(CoveringIndex)
def _(target: CoveringIndex, rendering: Rendering) -> list[Step]:
    return partitions.create_index(target)


@drop.register(CoveringIndex)
def _(target: CoveringIndex, rendering: Rendering) -> list[Step]:
    return [Step(sql=f"DROP INDEX IF EXISTS ledger.{target.name}")]


@create.register(Rollup)
def _(target: Rollup, rendering: Rendering) -> list[Step]:
    view = rollup_tables.live_view(target, rendering)
    return [
        *(touch_log.create(target.series) if target.is_of_raw_rows else ()),
        *(Step(sql=statement) for statement in rollup_tables.rollup_table(target, rendering)),
        create_routine(rollup_tables.rebuild(target, rendering)),
        Step(sql=f"CREATE OR REPLACE VIEW ledger.{target.name} AS {view}"),
    ]


@drop.register(Rollup)
def _(target: Rollup, rendering: Rendering) -> list[Step]:
    return [
        portable.drop_view(target.name),
        drop_routine(f"rebuild_{target.name}"),
        Step(sql=f"DROP TABLE IF EXISTS ledger.{target.name}_materialized"),
        *(touch_log.drop(target.series) if target.is_of_raw_rows else ()),
    ]


@create.register(Refresh)
def _(target: Refresh, rendering: Rendering) -> list[Step]:
    return [create_routine(routine) for routine in rollup_refresh.refresh_routines(target)]


@drop.register(Refresh)
def _(target: Refresh, rendering: Rendering) -> list[Step]:
    return [
        drop_routine("retire_day"),
        drop_routine("refresh_metrics"),
        Step(
            sql="UPDATE ledger.rollup_progress SET watermark = '-infinity'"
            f" WHERE source = {literal(target.series)}"
        ),
    ]


@create.register(Columnstore)
def _(target: Columnstore, rendering: Rendering) -> list[Step]:
    return []


@drop.register(Columnstore)
def _(target: Columnstore, rendering: Rendering) -> list[Step]:
    return []


@create.register(Retention)
def _(target: Retention, rendering: Rendering) -> list[Step]:
    return [wishes.adopt_wish(target)]


@drop.register(Retention)
def _(target: Retention, rendering: Rendering) -> list[Step]:
    return []


@facts.register(TimeSeries)
def _(target: TimeSeries, rendering: Rendering) -> list[Fact]:
    return [
        Holds(
            query="SELECT relkind = 'p' FROM pg_class"
            f" WHERE oid = to_regclass('ledger.{target.name}')",
            otherwise=f"{target.name} is not partitioned",
        ),
        *routine_facts(partitions.ensure_days(target)),
    ]


@facts.register(Rollup)
def _(target: Rollup, rendering: Rendering) -> list[Fact]:
    log: list[Fact] = []
    if target.is_of_raw_rows:
        series = target.series
        triggers = touch_log.triggers(series)
        log = [
            TableIs(name=f"{series}_touched", statements=touch_log.table(series)),
            *(fact for _, routine in triggers.values() for fact in routine_facts(routine)),
            *(
                # Not ALWAYS: a replica's or a restore's replay must not fire them.
                TriggerIs(
                    table=series,
                    name=f"{series}_touched_by_{event}",
                    statement=touch_log.trigger(series, event),
                    enabled="O",
                )
                for event in triggers
            ),
        ]
    return [
        *log,
        TableIs(
            name=f"{target.name}_materialized",
            statements=rollup_tables.rollup_table(target, rendering),
        ),
        RoutineIs(accepted=(rollup_tables.rebuild(target, rendering),)),
        ViewIs(
            name=target.name, query=rollup_tables.live_view(target, rendering), is_barrier=False
        ),
    ]


@facts.register(Refresh)
def _(target: Refresh, rendering: Rendering) -> list[Fact]:
    routines = rollup_refresh.refresh_routines(target)
    return [RoutineIs(accepted=(routine,)) for routine in routines]


@facts.register(Columnstore)
def _(target: Columnstore, rendering: Rendering) -> list[Fact]:
    return []


@facts.register(Retention)
def _(target: Retention, rendering: Rendering) -> list[Fact]:
    return [wishes.has_wish(target)]
