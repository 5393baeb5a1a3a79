"""How TimescaleDB gets what the ledger asks for, and loses it."""

from __future__ import annotations

from functools import singledispatch

from ledger.ddl import portable, wishes
from ledger.ddl.continuous_aggregates import aggregate, start_refreshing, stop_refreshing
from ledger.ddl.objects import (
    Columnstore,
    CoveringIndex,
    Refresh,
    Retention,
    Rollup,
    TimeSeries,
)
from ledger.ddl.rendering import Rendering
from ledger.ddl.steps import Step, block, interval, literal
from ledger.ddl.timescale_facts import facts

__all__ = ["create", "drop", "facts"]


@singledispatch
def create(target: object, rendering: Rendering) -> list[Step]:
    """The steps that make the object, or make it again as it should be."""
    return portable.create(target, rendering)


@singledispatch
def drop(target: object, rendering: Rendering) -> list[Step]:
    """The steps that take the object away."""
    return portable.drop(target, rendering)


@create.register(TimeSeries)
def _(target: TimeSeries, rendering: Rendering) -> list[Step]:
    api = rendering.timescaledb
    return [
        Step(
            sql=f"SELECT {api}.create_hypertable('ledger.{target.name}',"
            f" {api}.by_range({literal(target.time_column)}, {interval(target.chunk)}),"
            " create_default_indexes => false, if_not_exists => true)"
        ),
        *portable.progress_rows(target.name),
    ]


@drop.register(TimeSeries)
def _(target: TimeSeries, rendering: Rendering) -> list[Step]:
    return [Step(sql=f"DELETE FROM ledger.rollup_progress WHERE source = {literal(target.name)}")]


@create.register(CoveringIndex)
def _(target: CoveringIndex, rendering: Rendering) -> list[Step]:
    where = f" WHERE {target.where}" if target.where else ""
    name = f"ledger.{target.name}"
    return [
        Step(
            sql=f"SELECT 'DROP INDEX {name}' FROM pg_index"
            f" WHERE indexrelid = to_regclass('{name}') AND NOT indisvalid",
            runs_outside_transaction=True,
            is_generator=True,
        ),
        Step(
            sql=f"CREATE INDEX IF NOT EXISTS {target.name} ON ledger.{target.table}"
            f" USING {target.using} ({', '.join(target.columns)})"
            f" WITH (timescaledb.transaction_per_chunk){where}",
            runs_outside_transaction=True,
        ),
    ]


@drop.register(CoveringIndex)
def _(target: CoveringIndex, rendering: Rendering) -> list[Step]:
    return [Step(sql=f"DROP INDEX IF EXISTS ledger.{target.name}")]


@create.register(Rollup)
def _(target: Rollup, rendering: Rendering) -> list[Step]:
    return [
        Step(
            sql=f"CREATE MATERIALIZED VIEW IF NOT EXISTS ledger.{target.name} WITH"
            " (timescaledb.continuous, timescaledb.materialized_only = false,"
            f" timescaledb.create_group_indexes = false) AS {aggregate(target, rendering)}"
            " WITH NO DATA"
        ),
        Step(
            sql=f"ALTER MATERIALIZED VIEW ledger.{target.name}"
            " SET (timescaledb.materialized_only = false)"
        ),
        Step(
            sql=f"CREATE INDEX IF NOT EXISTS {target.name}_user_id_bucket_idx"
            f" ON ledger.{target.name} (user_id, bucket DESC)"
        ),
    ]


@drop.register(Rollup)
def _(target: Rollup, rendering: Rendering) -> list[Step]:
    return [
        Step(sql=f"DROP MATERIALIZED VIEW IF EXISTS ledger.{target.name}"),
    ]


@create.register(Refresh)
def _(target: Refresh, rendering: Rendering) -> list[Step]:
    return start_refreshing(target, rendering)


@drop.register(Refresh)
def _(target: Refresh, rendering: Rendering) -> list[Step]:
    return stop_refreshing(target, rendering)


def _alter(name: str) -> str:
    return block(
        f"""BEGIN
  EXECUTE format('ALTER %%s ledger.{name} SET (%%s)',
    CASE WHEN EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
                      WHERE view_schema = 'ledger' AND view_name = '{name}')
         THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, $options$%s$options$);
END"""
    )


@create.register(Columnstore)
def _(target: Columnstore, rendering: Rendering) -> list[Step]:
    api = rendering.timescaledb
    options = (
        "timescaledb.enable_columnstore = true,"
        f" timescaledb.segmentby = '{target.segment_by}',"
        f" timescaledb.orderby = '{target.order_by}'"
    )
    return [
        Step(sql=_alter(target.name) % options),
        Step(
            sql=f"CALL {api}.remove_columnstore_policy('ledger.{target.name}', if_exists => true)"
        ),
        Step(
            sql=f"CALL {api}.add_columnstore_policy('ledger.{target.name}',"
            f" after => {interval(target.after)})"
        ),
    ]


@drop.register(Columnstore)
def _(target: Columnstore, rendering: Rendering) -> list[Step]:
    relation, api = literal(f"ledger.{target.name}"), rendering.timescaledb
    return [
        Step(sql=f"CALL {api}.remove_columnstore_policy({relation}, if_exists => true)"),
        Step(
            sql=f"SELECT {api}.decompress_chunk(c, true) FROM {api}.show_chunks({relation}) AS c",
        ),
        Step(sql=_alter(target.name) % "timescaledb.enable_columnstore = false"),
    ]


@create.register(Retention)
def _(target: Retention, rendering: Rendering) -> list[Step]:
    relation, api = literal(f"ledger.{target.name}"), rendering.timescaledb
    return [
        wishes.adopt_wish(target),
        Step(sql=f"SELECT {api}.remove_retention_policy({relation}, if_exists => true)"),
        Step(
            sql=f"SELECT {api}.add_retention_policy({relation}, {wishes.wished(target.name)},"
            " schedule_interval => INTERVAL '1 hour')"
        ),
    ]


@drop.register(Retention)
def _(target: Retention, rendering: Rendering) -> list[Step]:
    relation, api = literal(f"ledger.{target.name}"), rendering.timescaledb
    return [
        Step(sql=f"SELECT {api}.remove_retention_policy({relation}, if_exists => true)"),
    ]
