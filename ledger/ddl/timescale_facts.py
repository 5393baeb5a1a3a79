"""What can be seen to hold where TimescaleDB has what the ledger asks for."""

from __future__ import annotations

from functools import singledispatch

from ledger.ddl import portable, wishes
from ledger.ddl.aggregate_facts import AggregateIs, ChunksHaveIndexes
from ledger.ddl.continuous_aggregates import OPTIONS, aggregate, refresh_procedure
from ledger.ddl.facts import Fact, Holds, RoutineIs
from ledger.ddl.objects import Columnstore, Refresh, Retention, Rollup, TimeSeries
from ledger.ddl.rendering import Rendering
from ledger.ddl.steps import interval, literal


@singledispatch
def facts(target: object, rendering: Rendering) -> list[Fact]:
    """What can be seen to hold where the object is there and as it should be."""
    return portable.facts(target, rendering)


_JOBS = "SELECT count(*) = 1 FROM timescaledb_information.jobs WHERE scheduled AND "


@facts.register(TimeSeries)
def _(target: TimeSeries, rendering: Rendering) -> list[Fact]:
    return [
        Holds(
            query="SELECT time_interval = "
            + interval(target.chunk)
            + " FROM timescaledb_information.dimensions WHERE hypertable_schema = 'ledger'"
            f" AND hypertable_name = {literal(target.name)}"
            f" AND column_name = {literal(target.time_column)}",
            otherwise=f"{target.name} is not a hypertable of chunks of {target.chunk}",
        ),
        ChunksHaveIndexes(table=target.name),
    ]


@facts.register(Rollup)
def _(target: Rollup, rendering: Rendering) -> list[Fact]:
    index = f"{target.name}_user_id_bucket_idx"
    return [
        AggregateIs(name=target.name, query=aggregate(target, rendering)),
        Holds(
            query="SELECT indisvalid FROM pg_index"
            f" WHERE indexrelid = to_regclass('_timescaledb_internal.{index}')",
            otherwise=f"index {index} is missing or INVALID",
        ),
    ]


@facts.register(Refresh)
def _(target: Refresh, rendering: Rendering) -> list[Fact]:
    routines = tuple(
        refresh_procedure(target, rendering, options=options) for options in (OPTIONS, "")
    )
    return [
        RoutineIs(accepted=routines),
        Holds(
            query=f"{_JOBS} proc_schema = 'ledger' AND proc_name = 'refresh_metrics'"
            f" AND schedule_interval = {interval(target.every)}",
            otherwise=f"the job that refreshes the rollups every {target.every} is missing,"
            " paused, or has another schedule",
        ),
        Holds(
            # A policy of somebody's own would refresh in batches, newest first.
            query="SELECT count(*) = 0 FROM timescaledb_information.jobs j WHERE proc_name ="
            " 'policy_refresh_continuous_aggregate' AND hypertable_schema = 'ledger'",
            otherwise="a refresh policy stands beside our job: remove it, reads are wrong while"
            " it runs newest first",
        ),
    ]


@facts.register(Columnstore)
def _(target: Columnstore, rendering: Rendering) -> list[Fact]:
    return [
        Holds(
            query=f"{_JOBS} proc_name IN ('policy_compression', 'policy_columnstore')"
            f" AND (config ->> 'compress_after')::interval = {interval(target.after)}"
            f" AND {_about(target.name)}",
            otherwise=f"the columnstore policy of {target.name} is missing, paused or changed",
        ),
    ]


@facts.register(Retention)
def _(target: Retention, rendering: Rendering) -> list[Fact]:
    return [
        wishes.has_wish(target),
        Holds(
            query=f"{_JOBS} proc_name = 'policy_retention' AND {_about(target.name)}"
            " AND (config ->> 'drop_after')::interval ="
            f" {wishes.wished(target.name)}",
            otherwise=f"the retention policy of {target.name} is missing, paused, or is not what"
            " ledger.installation says; `ledger retention set` makes them agree",
        ),
    ]


def _about(name: str) -> str:
    return (
        "hypertable_schema || '.' || hypertable_name IN ("
        f"'ledger.{name}', (SELECT materialization_hypertable_schema || '.' ||"
        " materialization_hypertable_name FROM timescaledb_information.continuous_aggregates"
        f" WHERE view_schema = 'ledger' AND view_name = '{name}'))"
    )
