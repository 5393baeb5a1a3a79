"""How long rows are to be kept, as the database remembers it: the wish of whoever owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.ddl.facts import Fact, Holds
from ledger.ddl.steps import Step, block, literal, seconds

if TYPE_CHECKING:
    from ledger.ddl.objects import Retention

RAW_LEVEL, MINUTE_LEVEL, HOUR_LEVEL = "llm_requests", "llm_metrics_1m", "llm_metrics_1h"


def has_wish(retention: Retention) -> Fact:
    """The installation says how long the relation is kept; how long is its owner's affair."""
    return Holds(
        query=f"SELECT retention ? {literal(retention.name)} FROM ledger.installation",
        otherwise=f"no retention is recorded for {retention.name}",
    )


def record_wish(retention: Retention) -> Step:
    """Write how long the relation's rows are to be kept, whatever was wished before."""
    return _record(retention.name, _duration(retention))


def adopt_wish(retention: Retention) -> Step:
    """Keep to what is wished already; where nothing is, the retention is the wish.

    A downgrade takes away what carries a wish out, never the wish: else the next upgrade would
    let rows go that somebody wished to keep.
    """
    found = f"(wished ->> {literal(retention.name)})::interval"
    return _record(retention.name, f"coalesce({found}, {_duration(retention)})")


def wished(name: str) -> str:
    """SQL of how long the relation's rows are kept; NULL is for ever."""
    return f"(SELECT (retention ->> {literal(name)})::interval FROM ledger.installation)"


def _duration(retention: Retention) -> str:
    return f"justify_hours(make_interval(secs => {seconds(retention.keep)}))"


def _record(name: str, keep: str) -> Step:
    """Write the wish that the PL/pgSQL ``keep`` comes to, refusing what would erase rollups.

    It may look at ``wished``, the wishes so far.

    A rollup is rebuilt from what is below it, whole: a late row in an hour whose minutes are
    gone turns that hour into the late row alone. So each level is kept at least as long as
    the one below. Raw rows that an older, shorter wish let go do not come back:
    ``raw_from`` remembers.
    """
    return Step(
        sql=block(
            f"""DECLARE
  forever CONSTANT interval := '1000 years';
  wished jsonb;
  keep interval;
  wishes jsonb;
  raw interval;
  minutes interval;
  hours interval;
  horizon timestamptz;
  waits boolean := false;
  patience text;
BEGIN
  SELECT retention INTO wished FROM ledger.installation FOR UPDATE;
  keep := {keep};
  wishes := wished || jsonb_build_object({literal(name)}, keep::text);
  raw := coalesce((wishes ->> '{RAW_LEVEL}')::interval, forever);
  minutes := coalesce((wishes ->> '{MINUTE_LEVEL}')::interval, forever);
  hours := coalesce((wishes ->> '{HOUR_LEVEL}')::interval, forever);
  IF keep < INTERVAL '1 day' THEN
    RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
      '%s cannot be kept for %s: the shortest is 1 day, as the last hours are not rolled up yet',
      {literal(name)}, keep);
  END IF;
  IF minutes < raw OR hours < minutes THEN
    RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
      'raw rows for %s, minutes for %s, hours for %s: a late row would rebuild an hour from minutes'
      ' that are gone and erase what it held; keep raw <= 1m <= 1h', raw, minutes, hours);
  END IF;
  IF {literal(name)} = '{RAW_LEVEL}' AND keep <> (wished ->> '{RAW_LEVEL}')::interval THEN
    horizon := date_bin('1 hour', now() - least(keep, (wished ->> '{RAW_LEVEL}')::interval),
                        '1970-01-01 00:00:00+00') + INTERVAL '1 hour';
    IF to_regclass('ledger.{RAW_LEVEL}_touched') IS NOT NULL THEN
      -- Rows that are being written belong before the old horizon or behind the new one.
      patience := current_setting('lock_timeout');
      PERFORM set_config('lock_timeout', '1s', true);
      LOCK TABLE ledger.{RAW_LEVEL} IN SHARE MODE;
      PERFORM set_config('lock_timeout', patience, true);
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
