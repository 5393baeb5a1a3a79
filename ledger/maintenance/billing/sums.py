"""The statements that recompute sums from the rows, by the SQL that makes deltas and folds them.

Each has one snapshot of rows, deltas and all that these are folded into: neither a writer nor a
fold in the middle makes a difference of it.
"""

# ruff: noqa: S608 - the names are ours, and values are bound

from __future__ import annotations

from datetime import UTC, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, DateTime, bindparam, text

from ledger.ddl.declared import USAGE_SUMS
from ledger.ddl.objects import RunningSums
from ledger.ddl.running_sums import folded, keys_of, measures_of, summed
from ledger.models.billing_sums import SUM_KEYS, SUMS, USER_KEYS
from ledger.records.billing_reconciliation import Findings, SumDifference, SumsReconciled
from ledger.window import HOUR, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import TextClause

    from ledger.ddl.objects import Fold
    from ledger.queries.query import AnyRow

DAY: Final = timedelta(days=1)

_KEYS: Final = (*SUM_KEYS, *USER_KEYS[:1], ("bin", "smallint"))
_COUNTS: Final = frozenset(
    ("requests", *(name for name, kind, _ in SUMS if kind in {"bigint", "numeric(38)"}))
)
_ROWS: Final = ("status = 'success' AND kind = 'usage'", "status <> 'success' AND kind = 'usage'")
_IN_DAYS: Final = "{moment} >= :days_from AND {moment} < :days_to"


def _inserted(target: RunningSums) -> str:
    """The rows that add to those days, each part by the index that has it."""
    table = f"SELECT * FROM ledger.{target.table} WHERE"
    booked = _IN_DAYS.format(moment="created_at")
    restated = _IN_DAYS.format(moment="adjusts_created_at")
    return "\nUNION ALL ".join(
        (
            *(f"{table} {which} AND {booked}" for which in _ROWS),
            f"{table} kind <> 'usage' AND {booked}",
            f"{table} kind <> 'usage' AND {restated} AND NOT ({booked})",
        )
    )


def _level(target: RunningSums, number: int, fold: Fold) -> str:
    """CTEs of what the level should say, and of what it says with the deltas that wait."""
    keys, measures = keys_of(fold), measures_of(fold)
    columns = ", ".join(("bucket", *keys, *measures))
    sums = ", ".join(f"sum({name}) AS {name}" for name in measures)
    groups = ", ".join(("bucket", *keys))
    days = "bucket >= :{0}_from AND bucket < :{0}_to"
    compared = days.format("hours" if fold.bucket == HOUR else "days")
    return f"""recounted_{number} ({columns}) AS (
SELECT * FROM ({folded(target, fold, "recounted")}) AS made ({columns}) WHERE {compared}),
stored_{number} AS (
SELECT {groups}, {sums} FROM (
  SELECT {columns} FROM ledger.{fold.name} WHERE {compared}
  UNION ALL SELECT * FROM ({folded(target, fold, "waiting")}) AS made ({columns}) WHERE {compared}
) AS every GROUP BY {groups})"""


def _compared(number: int, fold: Fold) -> str:
    """The measures that differ, one a row."""
    keys, measures = keys_of(fold), measures_of(fold)
    shown = ", ".join(
        name if name in keys else f"CAST(NULL AS {kind}) AS {name}" for name, kind in _KEYS
    )
    values = ", ".join(
        f"('{name}', coalesce(r.{name}, 0)::numeric, coalesce(s.{name}, 0)::numeric)"
        for name in measures
    )
    return (
        f"SELECT {number} AS place, '{fold.name}' AS level, bucket, {shown},"
        " measure, of_rows, of_sums\n"
        f"FROM recounted_{number} r FULL JOIN stored_{number} s"
        f" USING (bucket, {', '.join(keys)})\n"
        f"CROSS JOIN LATERAL (VALUES {values}) AS m (measure, of_rows, of_sums)\n"
        "WHERE of_rows <> of_sums"
    )


def _statement(target: RunningSums) -> str:
    levels = list(enumerate(target.folds))
    deltas = ", ".join(("hour", *(n for n, _ in target.keys), *(n for n, _, _ in target.measures)))
    in_days = _IN_DAYS.format(moment="hour")
    both = ",\n".join(_level(target, number, fold) for number, fold in levels)
    compared = "\nUNION ALL\n".join(_compared(number, fold) for number, fold in levels)
    return f"""WITH inserted AS NOT MATERIALIZED (
{_inserted(target)}),
recounted ({deltas}) AS MATERIALIZED (
SELECT * FROM ({summed(target, "inserted")}) AS made ({deltas}) WHERE {in_days}),
waiting AS MATERIALIZED (SELECT {deltas} FROM ledger.{target.name} WHERE {in_days}),
{both},
differences AS MATERIALIZED (
{compared})
SELECT totals.*, kept.* FROM (
  SELECT (SELECT count(*) FROM differences) AS found,
    (SELECT count(*) FROM inserted WHERE {_IN_DAYS.format(moment="created_at")}) AS booked
) AS totals LEFT JOIN (
  SELECT d.*, coalesce(p.name, d.provider_id::text) AS provider
  FROM differences d LEFT JOIN ledger.providers p ON p.id = d.provider_id
  ORDER BY bucket, place, provider, model_id, status, tier, user_id, bin, measure LIMIT :first
) AS kept ON true
ORDER BY bucket, place, provider, model_id, status, tier, user_id, bin, measure"""


_MOMENT: Final = DateTime(timezone=True)


def _bound(target: RunningSums) -> TextClause:
    grains = {"hours" if fold.bucket == HOUR else "days" for fold in target.folds} | {"days"}
    moments = (f"{grain}_{end}" for grain in sorted(grains) for end in ("from", "to"))
    return text(_statement(target)).bindparams(
        *(bindparam(name, type_=_MOMENT) for name in moments),
        bindparam("first", type_=BigInteger()),
    )


SUMS_COMPARED: Final[tuple[TextClause, ...]] = tuple(_bound(target) for target in USAGE_SUMS)
"""One for each table of deltas, and what they are folded into."""


def asked_of(window: Window, first: int) -> dict[str, Any]:
    """What the statement binds."""
    hours, days = window.widened(HOUR), window.widened(DAY)
    return {
        "hours_from": hours.start,
        "hours_to": hours.end,
        "days_from": days.start,
        "days_to": days.end,
        "first": first,
    }


def reconciled(window: Window, answers: Sequence[Sequence[AnyRow]], first: int) -> SumsReconciled:
    """What their rows say: totals in each, and a difference in each where there is any."""
    found = [_difference(row) for rows in answers for row in rows if row.level is not None]
    return SumsReconciled(
        hours=window.widened(HOUR),
        days=window.widened(DAY),
        rows=answers[0][0].booked,
        differences=Findings(
            count=sum(rows[0].found for rows in answers),
            first=tuple(sorted(found, key=lambda difference: difference.bucket)[:first]),
        ),
    )


def _difference(row: AnyRow) -> SumDifference:
    def value(number: Decimal) -> int | Decimal:
        return int(number) if row.measure in _COUNTS and number.is_finite() else number

    return SumDifference(
        level=row.level,
        bucket=row.bucket.astimezone(UTC),
        provider=row.provider,
        model=row.model_id,
        status=row.status,
        tier=row.tier,
        user_id=row.user_id,
        cost_bin=row.bin,
        measure=row.measure,
        of_rows=value(row.of_rows),
        of_sums=value(row.of_sums),
    )
