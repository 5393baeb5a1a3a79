"""The SQL functions that put latencies into bins and read percentiles out of sketches."""

from __future__ import annotations

from ledger.ddl.objects import Routine
from ledger.models.latency import LOWER_BOUNDS, VALUES
from ledger.settings import Percentiles

_BIN = Routine(
    name="latency_bin",
    arguments="latency_ms integer",
    definition=(
        "RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE"
        f" RETURN width_bucket(latency_ms, '{{{','.join(map(str, LOWER_BOUNDS))}}}'::integer[])"
    ),
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
    total := total + coalesce(requests, 0);
  END LOOP;
  IF total = 0 THEN
    RETURN NULL;
  END IF;
  rank := floor(quantile * (total - 1))::bigint + 1;
  FOR bin IN array_lower(bins, 1) .. array_upper(bins, 1) LOOP
    seen := seen + coalesce(bins[bin], 0);
    IF seen >= rank THEN
      RETURN latencies[bin];
    END IF;
  END LOOP;
  RETURN NULL;
END
$function$""",
)

_READ_SKETCH = Routine(
    name="latency_percentile",
    arguments="sketch uddsketch, quantile double precision",
    definition=(
        "RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE"
        " RETURN approx_percentile(quantile, sketch)"
    ),
)


def latency_routines(encoding: Percentiles) -> tuple[Routine, ...]:
    """The routines of this encoding, in the order they are made."""
    return (_READ_SKETCH,) if encoding is Percentiles.UDDSKETCH else (_BIN, _READ_BINS)
