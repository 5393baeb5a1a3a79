"""The SELECT that a rollup is made of, in every place that makes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.models.latency import bin_sql, dense_merge_sql, merge_sql, sketch_sql
from ledger.settings import Percentiles

if TYPE_CHECKING:
    from ledger.ddl.objects import Rollup

EPOCH = "'1970-01-01 00:00:00+00'::timestamptz"


def column_names(rollup: Rollup) -> str:
    """The rollup's columns in their order."""
    measures = (name for name, _ in rollup.measures)
    return ", ".join(["bucket", *rollup.keys, *measures, "latency_sketch"])


def bucket_sql(rollup: Rollup, column: str) -> str:
    """The start of the bucket a moment is in. `date_bin` is immutable, `date_trunc` is not."""
    seconds = int(rollup.bucket.total_seconds())
    return f"date_bin('{seconds} seconds', {column}, {EPOCH})"


def measure_sql(name: str, expression: str) -> str:
    """An aggregate with the type its column has: sums of bigint would grow to numeric."""
    return f"{expression} AS {name}" if name == "cost_usd" else f"({expression})::bigint AS {name}"


def aggregate_sql(rollup: Rollup, rows: str, encoding: Percentiles) -> str:
    """SELECT of the rollup's rows from ``rows``, a FROM clause and what follows it.

    A histogram of raw rows is made in two steps: a group a bin, then one array a group, as
    counting into 135 bins row by row would test each row 135 times.
    """
    time = f'"{rollup.time_column}"'
    keys = ", ".join(rollup.keys)
    merged = ", ".join(measure_sql(name, f"sum({name})") for name, _ in rollup.measures)
    if not rollup.is_of_raw_rows:
        sketch = stored_sketch(dense_merge_sql(rollup.latency, encoding), encoding)
        return (
            f"SELECT {bucket_sql(rollup, time)} AS bucket, {keys}, {merged},"
            f" {sketch} AS latency_sketch"
            f" FROM {rows} GROUP BY 1, {keys}"
        )
    summed = ", ".join(measure_sql(name, expression) for name, expression in rollup.measures)
    sketch = sketch_sql(rollup.latency, encoding)
    if encoding is Percentiles.UDDSKETCH:
        return (
            f"SELECT {bucket_sql(rollup, time)} AS bucket, {keys}, {summed},"
            f" {sketch} AS latency_sketch FROM {rows} GROUP BY 1, {keys}"
        )
    return (
        f"SELECT bucket, {keys}, {merged},"
        f" {stored_sketch(merge_sql('bin', encoding), encoding)} AS latency_sketch"
        f" FROM (SELECT {bucket_sql(rollup, time)} AS bucket, {keys}, {summed}, {sketch} AS bin"
        f" FROM {rows} GROUP BY 1, {keys}, {bin_sql(rollup.latency)}) AS binned"
        f" GROUP BY bucket, {keys}"
    )


def stored_sketch(merged: str, encoding: Percentiles) -> str:
    """A merged sketch as a rollup stores it: counts of an hour fit into four bytes."""
    return merged if encoding is Percentiles.UDDSKETCH else f"({merged})::integer[]"
