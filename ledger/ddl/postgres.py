"""How PostgreSQL without an extension gets what the ledger asks for."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING

from ledger.ddl import common, partitions, rollup_tables
from ledger.ddl.facts import Fact, Holds, RoutineIs, TableIs, TriggerIs, ViewIs
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
    from ledger.settings import Percentiles


@singledispatch
def create(target: object, encoding: Percentiles) -> list[Step]:
    """The steps that make the object, or make it again as it should be."""
    return common.create(target, encoding)


@singledispatch
def drop(target: object, encoding: Percentiles) -> list[Step]:
    """The steps that take the object away."""
    return common.drop(target, encoding)


@singledispatch
def facts(target: object, encoding: Percentiles) -> list[Fact]:
    """What can be seen to hold where the object is there and as it should be."""
    return common.facts(target, encoding)


@create.register(TimeSeries)
def _(target: TimeSeries, encoding: Percentiles) -> list[Step]:
    return partitions.create_time_series(target)


@drop.register(TimeSeries)
def _(target: TimeSeries, encoding: Percentiles) -> list[Step]:
    return partitions.drop_time_series(target.name)


@create.register(CoveringIndex)
def _(target: CoveringIndex, encoding: Percentiles) -> list[Step]:
    return partitions.create_index(target)


@drop.register(CoveringIndex)
def _(target: CoveringIndex, encoding: Percentiles) -> list[Step]:
    return [Step(sql=f"DROP INDEX IF EXISTS ledger.{target.name}")]


@create.register(Rollup)
def _(target: Rollup, encoding: Percentiles) -> list[Step]:
    view = rollup_tables.live_view(target, encoding)
    return [
        *(rollup_tables.touch_log(target.series) if target.is_of_raw_rows else ()),
        *(Step(sql=statement) for statement in rollup_tables.rollup_table(target, encoding)),
        create_routine(rollup_tables.rebuild(target, encoding)),
        Step(sql=f"CREATE OR REPLACE VIEW ledger.{target.name} AS {view}"),
    ]


@drop.register(Rollup)
def _(target: Rollup, encoding: Percentiles) -> list[Step]:
    return [
        common.drop_view(target.name),
        drop_routine(f"rebuild_{target.name}"),
        Step(sql=f"DROP TABLE IF EXISTS ledger.{target.name}_materialized"),
        *(rollup_tables.drop_touch_log(target.series) if target.is_of_raw_rows else ()),
    ]


@create.register(Refresh)
def _(target: Refresh, encoding: Percentiles) -> list[Step]:
    return [create_routine(routine) for routine in rollup_tables.refresh_routines(target)]


@drop.register(Refresh)
def _(target: Refresh, encoding: Percentiles) -> list[Step]:
    return [
        drop_routine("retire_day"),
        drop_routine("refresh_metrics"),
        Step(
            sql="UPDATE ledger.rollup_progress SET watermark = '-infinity'"
            f" WHERE source = {literal(target.series)}"
        ),
    ]


@create.register(Columnstore)
def _(target: Columnstore, encoding: Percentiles) -> list[Step]:
    return []


@drop.register(Columnstore)
def _(target: Columnstore, encoding: Percentiles) -> list[Step]:
    return []


@create.register(Retention)
def _(target: Retention, encoding: Percentiles) -> list[Step]:
    return common.record_wish(target)


@drop.register(Retention)
def _(target: Retention, encoding: Percentiles) -> list[Step]:
    return [common.forget_wish(target.name)]


@facts.register(TimeSeries)
def _(target: TimeSeries, encoding: Percentiles) -> list[Fact]:
    return [
        Holds(
            query="SELECT relkind = 'p' FROM pg_class"
            f" WHERE oid = to_regclass('ledger.{target.name}')",
            otherwise=f"{target.name} is not partitioned",
        ),
        *common.routine_facts(partitions.ensure_days(target)),
    ]


@facts.register(Rollup)
def _(target: Rollup, encoding: Percentiles) -> list[Fact]:
    log: list[Fact] = []
    if target.is_of_raw_rows:
        series = target.series
        triggers = rollup_tables.touch_log_triggers(series)
        log = [
            TableIs(name=f"{series}_touched", statements=rollup_tables.touch_log_table(series)),
            *(fact for _, routine in triggers.values() for fact in common.routine_facts(routine)),
            *(
                # Not ALWAYS: a replica's or a restore's replay must not fire them.
                TriggerIs(
                    table=series,
                    name=f"{series}_touched_by_{event}",
                    statement=rollup_tables.touch_log_trigger(series, event),
                    enabled="O",
                )
                for event in triggers
            ),
        ]
    return [
        *log,
        TableIs(
            name=f"{target.name}_materialized",
            statements=rollup_tables.rollup_table(target, encoding),
        ),
        RoutineIs(accepted=(rollup_tables.rebuild(target, encoding),)),
        ViewIs(name=target.name, query=rollup_tables.live_view(target, encoding), is_barrier=False),
    ]


@facts.register(Refresh)
def _(target: Refresh, encoding: Percentiles) -> list[Fact]:
    routines = rollup_tables.refresh_routines(target)
    return [RoutineIs(accepted=(routine,)) for routine in routines]


@facts.register(Columnstore)
def _(target: Columnstore, encoding: Percentiles) -> list[Fact]:
    return []


@facts.register(Retention)
def _(target: Retention, encoding: Percentiles) -> list[Fact]:
    return [common.has_wish(target)]
