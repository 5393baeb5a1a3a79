"""The SQL functions that put latencies into bins and read percentiles out of sketches.

They are called for every row, where a search_path of their own would be set and reset each
time. So their names and operators are written in full, or found once, when the function is
made (RETURN).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ledger.ddl.facts import Fact, Holds
from ledger.ddl.objects import Routine
from ledger.ddl.rendering import Rendering
from ledger.ddl.steps import Step
from ledger.models.latency import BINS, LOWER_BOUNDS, VALUES

_BIN = Routine(
    name="latency_bin",
    arguments="latency_ms integer",
    definition=(
        "RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE"
        f" RETURN width_bucket(latency_ms, '{{{','.join(map(str, LOWER_BOUNDS))}}}'::integer[])"
    ),
)

_COUNT = Routine(
    name="count_latency_bin",
    arguments="counts integer[], bin integer",
    definition="""RETURNS integer[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $function$
BEGIN
  counts[bin] := coalesce(counts[bin], 0) OPERATOR(pg_catalog.+) 1;
  RETURN counts;
END
$function$""",
)

_ADD = Routine(
    name="add_latency_bins",
    arguments="counts integer[], more integer[]",
    definition="""RETURNS integer[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $function$
BEGIN
  FOR bin IN pg_catalog.array_lower(more, 1) .. pg_catalog.array_upper(more, 1) LOOP
    IF more[bin] OPERATOR(pg_catalog.>) 0 THEN
      counts[bin] := counts[bin] OPERATOR(pg_catalog.+) more[bin];
    END IF;
  END LOOP;
  RETURN counts;
END
$function$""",
)

_LATENCIES = ",".join(f"{value:.6g}" for value in VALUES)

_READ_BINS = Routine(
    name="latency_percentile",
    arguments="bins bigint[], quantile double precision",
    definition=f"""RETURNS double precision LANGUAGE plpgsql
IMMUTABLE STRICT PARALLEL SAFE AS $function$
DECLARE
  latencies CONSTANT double precision[] := '{{{_LATENCIES}}}';
  total bigint := 0;
  seen bigint := 0;
  rank bigint;
  requests bigint;
BEGIN
  FOREACH requests IN ARRAY bins LOOP
    total := total OPERATOR(pg_catalog.+) coalesce(requests, 0);
  END LOOP;
  IF total OPERATOR(pg_catalog.=) 0 THEN
    RETURN NULL;
  END IF;
  rank := pg_catalog.floor(
    quantile OPERATOR(pg_catalog.*) (total OPERATOR(pg_catalog.-) 1)
  )::bigint OPERATOR(pg_catalog.+) 1;
  FOR bin IN pg_catalog.array_lower(bins, 1) .. pg_catalog.array_upper(bins, 1) LOOP
    seen := seen OPERATOR(pg_catalog.+) coalesce(bins[bin], 0);
    IF seen OPERATOR(pg_catalog.>=) rank THEN
      RETURN latencies[bin];
    END IF;
  END LOOP;
  RETURN NULL;
END
$function$""",
)


def _read_sketch(toolkit: str) -> Routine:
    return Routine(
        name="latency_percentile",
        arguments=f"sketch {toolkit}.uddsketch, quantile double precision",
        definition=(
            "RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE"
            f" RETURN {toolkit}.approx_percentile(quantile, sketch)"
        ),
    )


_AGGREGATES: Final = {
    "latency_histogram": ("integer", _COUNT, "{}"),
    "merged_latency_histogram": ("integer[]", _ADD, f"{{{','.join(['0'] * BINS)}}}"),
}
"""By name: the argument, the transition function and the first state of each aggregate.

The first makes an array no wider than its latencies, as most minutes hold a request or two;
the second a whole one with zeros, which is read fastest. Adding up 135 expressions a group
instead took five times as long to refresh.
"""


def aggregates(rendering: Rendering) -> Mapping[str, tuple[str, Routine, str]]:
    """The aggregates that rollups of this encoding are made by; the toolkit has its own."""
    return {} if rendering.is_of_sketches else _AGGREGATES


def create_aggregates(rendering: Rendering) -> list[Step]:
    """Make them."""
    return [
        Step(
            sql=f"CREATE OR REPLACE AGGREGATE ledger.{name}({argument}) (SFUNC ="
            f" ledger.{transition.name}, STYPE = integer[], INITCOND = '{first}', PARALLEL = SAFE)"
        )
        for name, (argument, transition, first) in aggregates(rendering).items()
    ]


def drop_aggregates(rendering: Rendering) -> list[Step]:
    """Drop them."""
    return [
        Step(sql=f"DROP AGGREGATE IF EXISTS ledger.{name}({argument})")
        for name, (argument, _, _) in aggregates(rendering).items()
    ]


def aggregate_facts(rendering: Rendering) -> list[Fact]:
    """That each is there, with its transition function and first state."""
    return [
        Holds(
            query=f"SELECT aggtransfn = to_regproc('ledger.{transition.name}') AND agginitval ="
            f" '{first}' FROM pg_aggregate WHERE aggfnoid = to_regproc('ledger.{name}')",
            otherwise=f"the aggregate {name} is missing or was changed",
        )
        for name, (_, transition, first) in aggregates(rendering).items()
    ]


def latency_routines(rendering: Rendering) -> tuple[Routine, ...]:
    """The routines of this encoding, in the order they are made."""
    if rendering.is_of_sketches:
        return (_read_sketch(rendering.toolkit),)
    return (_BIN, _COUNT, _ADD, _READ_BINS)
