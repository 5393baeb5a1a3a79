"""The SELECT that a rollup is made of, in every place that makes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.models.latency import merged_rollup_sql, rolled_up_sql

if TYPE_CHECKING:
    from ledger.ddl.objects import Rollup
    from ledger.ddl.rendering import Rendering

EPOCH = "'1970-01-01 00:00:00+00'::timestamptz"


def column_names(rollup: Rollup) -> str:
    """The rollup's columns in their order."""
    measures = (name for name, _ in rollup.measures)
    return ", ".join(["bucket", *rollup.keys, *measures, "latency_sketch"])


def bucket_sql(rollup: Rollup) -> str:
    """The start of the bucket a row is in. `date_bin` is immutable, `date_trunc` is not."""
    seconds = int(rollup.bucket.total_seconds())
    return f"date_bin('{seconds} seconds', \"{rollup.time_column}\", {EPOCH})"


def measure_sql(name: str, expression: str) -> str:
    """An aggregate with the type its column has: sums of bigint would grow to numeric."""
    return f"{expression} AS {name}" if name == "cost_usd" else f"({expression})::bigint AS {name}"


def aggregate_sql(rollup: Rollup, bucket: str, rows: str, rendering: Rendering) -> str:
    """SELECT of the rollup's rows from ``rows``, a FROM clause and what follows it."""
    keys = ", ".join(rollup.keys)
    measures = ", ".join(measure_sql(name, expression) for name, expression in rollup.measures)
    sketched = rolled_up_sql if rollup.is_of_raw_rows else merged_rollup_sql
    return (
        f"SELECT {bucket} AS bucket, {keys}, {measures},"
        f" {sketched(rollup.latency, rendering.percentiles, rendering.toolkit)} AS latency_sketch"
        f" FROM {rows} GROUP BY 1, {keys}"
    )
