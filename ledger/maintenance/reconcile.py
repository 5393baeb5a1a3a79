"""Reconciling: the hours of a window, some at a time, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from ledger.ddl.rendering import rendering_of
from ledger.ddl.search_path import trust_in_each_transaction
from ledger.maintenance.comparison import COMPARED_FROM, COMPARED_UNTIL, TOTALS, Comparison
from ledger.maintenance.connection import compile_nothing, plan_for_all_rows
from ledger.maintenance.reconciliation import Difference, Reconciliation
from ledger.maintenance.standing import standing
from ledger.window import HOUR, Window, floor, require_window

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ledger.queries.query import AnyRow
    from ledger.queries.scope import Scope
    from ledger.records.installation import Horizon

AT_A_TIME: Final = timedelta(days=1)
"""What one statement compares: planning costs TimescaleDB 12 ms each, whatever the hours."""

KEPT_DIFFERENCES: Final = 1_000
"""So that the report of a rollup that is all wrong has a size too."""

_ROWS_AT_A_TIME: Final = 1_000

OnProgress: TypeAlias = Callable[[datetime, Window], object]
"""Called with the moment up to which hours were compared, and with all that will be."""


def reconcile(
    connection: Connection, asked: Window, scope: Scope, on_progress: OnProgress
) -> Reconciliation:
    """Compare every hour that the window touches, and that can be compared."""
    require_window(asked)
    trust_in_each_transaction(connection)
    known = standing(connection)
    with connection.begin():
        rendering = rendering_of(connection, known.installed.percentiles)
    comparable = _comparable(asked, known.horizon)
    compared_from = comparable.start
    requests = left_out = found = 0
    differences: list[Difference] = []
    # Made once: to make it takes longer than PostgreSQL takes to compare a quiet day.
    statement = Comparison(
        user_id=scope.user_id, storage=known.installed.storage, rendering=rendering
    ).statement()
    for hours in _parts(comparable):
        with connection.begin():
            compile_nothing(connection)
            plan_for_all_rows(connection)
            rows = connection.execute(
                statement,
                {COMPARED_FROM.key: hours.start, COMPARED_UNTIL.key: hours.end},
                execution_options={"yield_per": _ROWS_AT_A_TIME},
            )
            for row in rows:
                if row.level == TOTALS:
                    requests += int(row.raw)
                    left_out += int(row.rollup)
                    if row.bucket > hours.start:
                        compared_from = min(row.bucket.astimezone(UTC), hours.end)
                    continue
                found += 1
                if len(differences) < KEPT_DIFFERENCES:
                    differences.append(_difference(row))
        on_progress(hours.end, comparable)
    is_any = compared_from < comparable.end
    return Reconciliation(
        asked=asked,
        compared=Window(start=compared_from, end=comparable.end) if is_any else None,
        requests=requests,
        groups_left_out=left_out,
        differences=tuple(differences),
        differences_found=found,
    )


def _comparable(asked: Window, horizon: Horizon) -> Window:
    """The whole hours that have both their raw rows and a place in the rollups."""
    hours = asked.widened(HOUR)
    start = hours.start if horizon.raw_from is None else max(hours.start, horizon.raw_from)
    end = start if horizon.watermark is None else min(hours.end, horizon.watermark)
    return Window(start=start, end=max(start, end))


def _parts(window: Window) -> Iterator[Window]:
    start = window.start
    while start < window.end:
        end = min(floor(start, AT_A_TIME) + AT_A_TIME, window.end)
        yield Window(start=start, end=end)
        start = end


def _difference(row: AnyRow) -> Difference:
    def value(number: Decimal | None) -> int | Decimal | None:
        return number if number is None or row.measure == "cost_usd" else int(number)

    return Difference(
        level=row.level,
        bucket=row.bucket.astimezone(UTC),
        user_id=row.user_id,
        provider=row.provider,
        model=row.model,
        measure=row.measure,
        raw=value(row.raw),
        rollup=value(row.rollup),
        awaits_refresh=row.awaits_refresh,
    )
