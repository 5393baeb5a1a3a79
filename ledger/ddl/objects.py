"""What the ledger asks of a database beyond tables, as values; how is the renderers' affair."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


class DatabaseObject(Protocol):
    """Anything that a revision can make and drop, and that the comparator can look for."""

    @property
    def name(self) -> str:
        """What it is called in the schema `ledger`; unique among objects of its class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routine:
    """A SQL function or procedure: `name` and `arguments`, then all that follows them."""

    name: str
    arguments: str
    definition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyFunctions:
    """The functions that read latency sketches, for the encoding this database has."""

    name: str = "latency_percentile"
    bins_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSeries:
    """A table of rows in time: a hypertable, or a table partitioned by whole days (UTC)."""

    name: str
    time_column: str
    chunk: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveringIndex:
    """An index of a time series, built without stopping writers."""

    name: str
    table: str
    columns: tuple[str, ...]
    where: str | None = None
    using: str = "btree"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """Sums of ``source`` by ``bucket`` and ``keys``, readable up to the latest row.

    ``measures`` are (column, SQL aggregate over the source); ``latency`` is the column of
    milliseconds, or of sketches where the source is a rollup, that ``latency_sketch`` is of.
    """

    name: str
    source: str
    time_column: str
    bucket: timedelta
    keys: tuple[str, ...]
    measures: tuple[tuple[str, str], ...]
    latency: str
    series: str
    """The time series at the bottom, whose progress row holds the watermark."""

    @property
    def is_of_raw_rows(self) -> bool:
        """Whether it sums the time series itself and not a finer rollup."""
        return self.source == self.series


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """Keeps the rollups of a time series current, the finest first, oldest buckets first.

    One routine does all levels in order, as jobs of their own can race: an hour that is
    rolled up before its minutes stays wrong until the next run.
    """

    name: str
    series: str
    rollups: tuple[str, ...]
    every: timedelta
    settle: timedelta
    """How long after its end an hour is left open for stragglers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columnstore:
    """Rows older than ``after`` are kept by column, where the storage can."""

    name: str
    segment_by: str
    order_by: str
    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Rows of the relation ``name`` older than ``keep`` go, whole chunks or days at a time.

    Where the database remembers another wish, that one holds.
    """

    name: str
    keep: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view for SQL users that shows what the role's scope allows (security_barrier)."""

    name: str
    query: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendOnly:
    """Rows of the table ``name`` are added, and never changed or removed, whoever asks."""

    name: str
    guard: str | None = None
    """The trigger function that lets some updates through; without one, none is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRows:
    """Rows of the table ``name`` stay, and keep their id, while append-only rows refer to it."""

    name: str
    referred_to_by: tuple[tuple[str, str], ...]
    """(table, column), append-only tables all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionChain:
    """Rows of the table ``name`` are linked by hashes, project by project, as they are appended."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPolicy:
    """A role that reads the table ``name`` sees in it what its scopes say, whatever its grants.

    A grant adds a policy of the role's own where its kind sees, or writes, more.
    """

    name: str
    rule: str = "users"
    """One of `row_policies.RULES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrentIndex:
    """An index of an ordinary table, built without stopping writers, and statistics after it."""

    name: str
    table: str
    columns: tuple[str, ...]
    include: tuple[str, ...] = ()
    where: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Where deltas are folded into: ``measures`` of them, by bucket and ``keys``."""

    name: str
    bucket: timedelta
    keys: tuple[str, ...]
    measures: tuple[str, ...]
    element: str | None = None
    """A column of arrays in the deltas: each of its elements is a key, and counted."""
    counted: str = "requests"
    """What an element is one of."""
    found_by: tuple[str, ...] = ()
    """Keys of which readers want one value through many buckets; an index leads to each."""
    led_by: str | None = None
    """One more of these, where no reader wants all values: the primary key begins with it, and
    not with the bucket, which the planner would take for whatever is read of all time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSums:
    """Sums over the append-only table ``table``, right at the moment a row is in.

    Each insert appends its own sums, by hour and ``keys``, to the table ``name``; they are
    folded later, and readers add both. Nobody waits for anybody, as no row is updated.
    """

    name: str
    table: str
    trigger: str
    """What appends them; a table may have several sums."""
    contributions: str
    """SELECT of ``moment``, the keys, and what the measures sum, from the rows `inserted`."""
    keys: tuple[tuple[str, str], ...]
    """(column, type)."""
    measures: tuple[tuple[str, str, str], ...]
    """(column, type, SQL aggregate over the contributions); min and max stay what they are, all
    others add up."""
    folds: tuple[Fold, ...]
    rule: str | None = None
    """What shows its tables, one of `row_policies.RULES`; None is whoever may read them."""
