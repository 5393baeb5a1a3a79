"""Latencies as rollups keep them: one column, two encodings that merge across levels.

`uddsketch` is the TimescaleDB toolkit's sketch; `histogram` is an `integer[]` of bins. Both
answer any percentile of latencies between 10 ms and 1 h within a bound that holds for every
distribution (`RELATIVE_ERROR`), against the order statistics next to the rank.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Integer
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import UserDefinedType

from ledger.models.base import SCHEMA
from ledger.settings import Percentiles

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.types import TypeEngine

SHORTEST_MS: Final = 10
LONGEST_MS: Final = 3_600_000
RELATIVE_ERROR: Final = {Percentiles.UDDSKETCH: 0.03, Percentiles.HISTOGRAM: 0.05}

BINS_VERSION: Final = 1
"""Bumped when the bins change: merging counts of unlike bins would lie."""

SKETCH_BUCKETS: Final = 256
SKETCH_ERROR: Final = 0.0265
"""At this error 242 buckets span 10 ms to 1 h, so that a sketch of 256 never has to collapse
(each collapse doubles the error; (200, 0.001) fell to 6.4 %)."""


def _lower_bounds() -> tuple[int, ...]:
    """Where each bin begins, in milliseconds; the last one holds all that is longer.

    Below 10 ms a bin a millisecond; then each bin as wide as its harmonic mean can stand for
    within 5 %: (b - a) / (b + a) <= 0.05 for the least and the greatest latency of the bin.
    """
    bounds = list(range(SHORTEST_MS))
    low = SHORTEST_MS
    while low <= LONGEST_MS:
        bounds.append(low)
        low = low * 105 // 95 + 1
    return (*bounds, low)


LOWER_BOUNDS: Final = _lower_bounds()
BINS: Final = len(LOWER_BOUNDS)
VALUES: Final = (
    *(2 * low * (high - 1) / max(low + high - 1, 1) for low, high in pairwise(LOWER_BOUNDS)),
    float(LOWER_BOUNDS[-1]),
)
"""What each bin's latencies are read as, in milliseconds: their harmonic mean."""


class UDDSketch(UserDefinedType[Any]):
    """The toolkit's sketch, opaque to Python."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The type's name in DDL."""
        return "uddsketch"


def sketch_type(encoding: Percentiles) -> TypeEngine[Any]:
    """The column type of `latency_sketch`."""
    return UDDSketch() if encoding is Percentiles.UDDSKETCH else ARRAY(Integer)


class Sketched(ColumnElement[Any]):
    """Latencies in milliseconds, many rows of them, as one sketch."""

    inherit_cache = True
    _traverse_internals = [  # noqa: RUF012  SQLAlchemy declares it for instances
        ("latency_ms", InternalTraversal.dp_clauseelement),
        ("encoding", InternalTraversal.dp_string),
    ]

    def __init__(self, latency_ms: ColumnElement[int], encoding: Percentiles) -> None:
        self.latency_ms, self.encoding, self.type = latency_ms, encoding, sketch_type(encoding)


class Merged(ColumnElement[Any]):
    """Many sketches as one. `histogram` accepts arrays of any bounds: a missing bin is zero."""

    inherit_cache = True
    _traverse_internals = [  # noqa: RUF012  SQLAlchemy declares it for instances
        ("sketch", InternalTraversal.dp_clauseelement),
        ("encoding", InternalTraversal.dp_string),
    ]

    def __init__(self, sketch: ColumnElement[Any], encoding: Percentiles) -> None:
        self.sketch, self.encoding, self.type = sketch, encoding, sketch_type(encoding)


class Percentile(ColumnElement[float]):
    """The latency in milliseconds, a double, at a quantile of a sketch; NULL of none."""

    inherit_cache = True
    type = DOUBLE_PRECISION()
    _traverse_internals = [  # noqa: RUF012  SQLAlchemy declares it for instances
        ("sketch", InternalTraversal.dp_clauseelement),
        ("quantile", InternalTraversal.dp_string),
        ("encoding", InternalTraversal.dp_string),
    ]

    def __init__(self, sketch: ColumnElement[Any], quantile: float, encoding: Percentiles) -> None:
        self.sketch, self.quantile, self.encoding = sketch, repr(quantile), encoding


def sketch_sql(latency_ms: str, encoding: Percentiles, toolkit: str | None = None) -> str:
    """SQL that sketches a column of milliseconds.

    An aggregate in one encoding; in the other an array of a single bin, to be grouped by
    `bin_sql`. Without the ``toolkit``'s schema the session's search_path finds its functions.
    """
    if encoding is Percentiles.UDDSKETCH:
        clamped = f"least(greatest({latency_ms}, {SHORTEST_MS}), {LONGEST_MS})"
        # Both casts, so that no other function of that name fits the call better.
        error = f"{SKETCH_ERROR}::double precision"
        return f"{_in(toolkit)}uddsketch({SKETCH_BUCKETS}, {error}, {clamped}::double precision)"
    return f"array_fill(count(*)::integer, ARRAY[1], ARRAY[{bin_sql(latency_ms)}])"


def bin_sql(latency_ms: str) -> str:
    """SQL for the bin, 1 to `BINS`, of a latency."""
    return f"{SCHEMA}.latency_bin({latency_ms})"


def merge_sql(sketch: str, encoding: Percentiles) -> str:
    """SQL that merges sketches to be read at once; a histogram becomes a `bigint[]`.

    Element by element, as that is the quickest way to read dense arrays: 11-20 ms where
    unnesting them took 90.
    """
    if encoding is Percentiles.UDDSKETCH:
        return f"rollup({sketch})"
    return f"ARRAY[{', '.join(f'sum({sketch}[{number}])' for number in range(1, BINS + 1))}]"


def _in(schema: str | None) -> str:
    return "" if schema is None else f"{schema}."


def rolled_up_sql(latency_ms: str, encoding: Percentiles, toolkit: str) -> str:
    """SQL of the aggregate that sketches milliseconds as a rollup stores them."""
    if encoding is Percentiles.UDDSKETCH:
        return sketch_sql(latency_ms, encoding, toolkit)
    return f"{SCHEMA}.latency_histogram({bin_sql(latency_ms)})"


def merged_rollup_sql(sketch: str, encoding: Percentiles, toolkit: str) -> str:
    """SQL of the aggregate that merges a finer rollup's sketches as a coarser one stores them."""
    if encoding is Percentiles.UDDSKETCH:
        return f"{_in(toolkit)}rollup({sketch})"
    return f"{SCHEMA}.merged_latency_histogram({sketch})"


def percentile_sql(sketch: str, quantile: str) -> str:
    """SQL that reads a percentile; the function is overloaded for both encodings."""
    return f"{SCHEMA}.latency_percentile({sketch}, {quantile})"


@compiles(Sketched)
def _sketched(element: Sketched, compiler: SQLCompiler, **kwargs: Any) -> str:
    return sketch_sql(compiler.process(element.latency_ms, **kwargs), element.encoding)


@compiles(Merged)
def _merged(element: Merged, compiler: SQLCompiler, **kwargs: Any) -> str:
    return merge_sql(compiler.process(element.sketch, **kwargs), element.encoding)


@compiles(Percentile)
def _percentile(element: Percentile, compiler: SQLCompiler, **kwargs: Any) -> str:
    return percentile_sql(compiler.process(element.sketch, **kwargs), element.quantile)
