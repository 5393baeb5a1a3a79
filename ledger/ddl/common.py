"""SQL that both storages share: routines, views, and what a statement must refuse."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING

from ledger.ddl.aggregates import EPOCH
from ledger.ddl.facts import Fact, Holds, RoutineIs, ViewIs
from ledger.ddl.latency_functions import (
    aggregate_facts,
    create_aggregates,
    drop_aggregates,
    latency_routines,
)
from ledger.ddl.objects import LatencyFunctions, Routine, View
from ledger.ddl.routines import create_routine, drop_routine
from ledger.ddl.steps import Step, block, literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from ledger.ddl.objects import Retention, Rollup
    from ledger.settings import Percentiles

RAW_LEVEL, MINUTE_LEVEL, HOUR_LEVEL = "llm_requests", "llm_metrics_1m", "llm_metrics_1h"


@singledispatch
def create(target: object, encoding: Percentiles) -> list[Step]:
    """The steps that make an object which is the same on both storages."""
    raise TypeError(f"no renderer makes a {type(target).__name__}")


@singledispatch
def drop(target: object, encoding: Percentiles) -> list[Step]:
    """The steps that take it away."""
    raise TypeError(f"no renderer drops a {type(target).__name__}")


@singledispatch
def facts(target: object, encoding: Percentiles) -> list[Fact]:
    """What can be seen to hold where the object is there."""
    raise TypeError(f"no renderer knows a {type(target).__name__}")


@facts.register(Routine)
def _(target: Routine, encoding: Percentiles) -> list[Fact]:
    return routine_facts(target)


@facts.register(LatencyFunctions)
def _(target: LatencyFunctions, encoding: Percentiles) -> list[Fact]:
    return [
        Holds(
            query=f"SELECT bins_version = {target.bins_version} FROM ledger.installation",
            otherwise=f"the rollups' latencies are not in bins of version {target.bins_version}",
        ),
        *(RoutineIs(accepted=(routine,)) for routine in latency_routines(encoding)),
        *aggregate_facts(encoding),
    ]


@facts.register(View)
def _(target: View, encoding: Percentiles) -> list[Fact]:
    return [ViewIs(name=target.name, query=target.query, is_barrier=True)]


def routine_facts(routine: Routine) -> list[Fact]:
    """The routine is there as it should be, and not everybody's where it acts as the owner."""
    is_there = RoutineIs(accepted=(routine,))
    if not _acts_as_owner(routine):
        return [is_there]
    return [
        is_there,
        Holds(
            query="SELECT NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace ="
            f" to_regnamespace('ledger') AND proname = {literal(routine.name)}"
            " AND has_function_privilege('public', oid, 'EXECUTE'))",
            otherwise=f"routine {routine.name} acts as the ledger's owner, and PUBLIC may execute"
            " it; revoke that",
        ),
    ]


def make_routine(routine: Routine) -> list[Step]:
    """Make the routine, or make it again as it should be.

    PostgreSQL lets everybody execute a new routine; one that acts as the owner is only for
    roles that it was granted to.
    """
    steps = [create_routine(routine)]
    if _acts_as_owner(routine):
        steps.append(Step(sql=f"REVOKE ALL ON ROUTINE ledger.{routine.name} FROM PUBLIC"))
    return steps


def _acts_as_owner(routine: Routine) -> bool:
    return "SECURITY DEFINER" in routine.definition


def has_wish(retention: Retention) -> Fact:
    """The installation says how long the relation is kept; how long is its owner's affair."""
    return Holds(
        query=f"SELECT retention ? {literal(retention.name)} FROM ledger.installation",
        otherwise=f"no retention is recorded for {retention.name}",
    )


@create.register(Routine)
def _(target: Routine, encoding: Percentiles) -> list[Step]:
    return make_routine(target)


@drop.register(Routine)
def _(target: Routine, encoding: Percentiles) -> list[Step]:
    return [drop_routine(target.name)]


@create.register(LatencyFunctions)
def _(target: LatencyFunctions, encoding: Percentiles) -> list[Step]:
    return [
        *(create_routine(routine) for routine in latency_routines(encoding)),
        *create_aggregates(encoding),
    ]


@drop.register(LatencyFunctions)
def _(target: LatencyFunctions, encoding: Percentiles) -> list[Step]:
    return [
        *drop_aggregates(encoding),
        *(drop_routine(routine.name) for routine in reversed(latency_routines(encoding))),
    ]


@create.register(View)
def _(target: View, encoding: Percentiles) -> list[Step]:
    # security_barrier keeps a reader's own functions from being run on other users' rows.
    return [
        Step(
            sql=f"CREATE OR REPLACE VIEW ledger.{target.name} WITH (security_barrier)"
            f" AS {target.query}"
        )
    ]


@drop.register(View)
def _(target: View, encoding: Percentiles) -> list[Step]:
    return [drop_view(target.name)]


def drop_view(name: str) -> Step:
    """Drop the view."""
    return Step(sql=f"DROP VIEW IF EXISTS ledger.{name}")


def refuse_loss(table: str, *, allowed: bool, rows: str = "", what: str = "rows") -> list[Step]:
    """Refuse to go on while the table holds rows, unless that loss was allowed by name."""
    if allowed:
        return []
    hint = f"ledger db downgrade --allow-data-loss {table} (alembic -x allow-data-loss={table})"
    return [
        Step(
            sql=block(
                f"""BEGIN
  IF EXISTS (SELECT FROM ledger.{table} {rows}) THEN
    RAISE EXCEPTION USING ERRCODE = 'LG002', MESSAGE =
      'ledger.{table} holds {what} that this downgrade would lose; nothing was changed.'
      ' To lose them: {hint}';
  END IF;
END"""
            )
        )
    ]


def refuse_rollup_loss(rollup: Rollup, *, allowed: bool) -> list[Step]:
    """Refuse to drop a rollup that holds buckets older than the rows it could be made of."""
    oldest = "(SELECT coalesce(min(\"timestamp\"), 'infinity') FROM ledger.llm_requests)"
    # Not date_trunc: an hour of the session's time zone may begin at half past.
    oldest_hour = f"date_bin('1 hour', {oldest}, {EPOCH})"
    return refuse_loss(
        rollup.name,
        allowed=allowed,
        rows=f"WHERE bucket < {oldest_hour}",
        what="history older than the raw rows",
    )


def record_wish(retention: Retention) -> list[Step]:
    """Write how long the relation's rows are to be kept, refusing what would erase rollups.

    A rollup is rebuilt from what is below it, whole: a late row in an hour whose minutes are
    gone turns that hour into the late row alone. So each level is kept at least as long as
    the one below. Raw rows that an older, shorter wish let go do not come back:
    ``raw_from`` remembers.
    """
    keep = f"justify_hours(make_interval(secs => {seconds(retention.keep)}))"
    return [
        Step(
            sql=block(
                f"""DECLARE
  forever CONSTANT interval := '1000 years';
  keep CONSTANT interval := {keep};
  wished jsonb;
  wishes jsonb;
  raw interval;
  minutes interval;
  hours interval;
  horizon timestamptz;
  waits boolean := false;
BEGIN
  SELECT retention INTO wished FROM ledger.installation FOR UPDATE;
  wishes := wished || jsonb_build_object({literal(retention.name)}, keep::text);
  raw := coalesce((wishes ->> '{RAW_LEVEL}')::interval, forever);
  minutes := coalesce((wishes ->> '{MINUTE_LEVEL}')::interval, forever);
  hours := coalesce((wishes ->> '{HOUR_LEVEL}')::interval, forever);
  IF keep < INTERVAL '1 day' THEN
    RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
      '%s cannot be kept for %s: the shortest is 1 day, as the last hours are not rolled up yet',
      {literal(retention.name)}, keep);
  END IF;
  IF minutes < raw OR hours < minutes THEN
    RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
      'raw rows for %s, minutes for %s, hours for %s: a late row would rebuild an hour from minutes'
      ' that are gone and erase what it held; keep raw <= 1m <= 1h', raw, minutes, hours);
  END IF;
  IF {literal(retention.name)} = '{RAW_LEVEL}' AND wished ? '{RAW_LEVEL}' THEN
    horizon := date_bin('1 hour', now() - least(keep, (wished ->> '{RAW_LEVEL}')::interval),
                        '1970-01-01 00:00:00+00') + INTERVAL '1 hour';
    IF to_regclass('ledger.{RAW_LEVEL}_touched') IS NOT NULL THEN
      EXECUTE 'SELECT EXISTS (SELECT FROM ledger.{RAW_LEVEL}_touched'
        ' WHERE hour < $1 AND hour >= ledger.raw_from())' INTO waits USING horizon;
    END IF;
    IF waits THEN
      RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
        'hours before %s still wait to be rolled up, and raw rows kept for %s would go before'
        ' they are; run `ledger maintain` first', horizon, keep);
    END IF;
    UPDATE ledger.rollup_progress SET raw_from = greatest(raw_from, horizon)
    WHERE source = '{RAW_LEVEL}';
  END IF;
  UPDATE ledger.installation SET retention = wishes;
END"""
            )
        )
    ]


def forget_wish(name: str) -> Step:
    """Keep the relation's rows for ever."""
    return Step(sql=f"UPDATE ledger.installation SET retention = retention - {literal(name)}")


def seconds(value: timedelta) -> int:
    """Whole seconds of a duration."""
    return int(value.total_seconds())


def progress_rows(series: str) -> Iterator[Step]:
    """The row that holds a time series' watermark and horizon."""
    yield Step(
        sql=f"INSERT INTO ledger.rollup_progress (source) VALUES ({literal(series)})"
        " ON CONFLICT DO NOTHING"
    )
