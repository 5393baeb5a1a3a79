"""Verifying the sums that statistics come from: they are kept apart, and linked by no hash."""

# ruff: noqa: S608 - the names are ours, and values are bound

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Uuid, bindparam, text

from ledger.ddl.aggregates import EPOCH
from ledger.ddl.declared import EXECUTION_RUNNING_SUMS
from ledger.ddl.execution_appending import LEDGER
from ledger.ddl.running_sums import merging
from ledger.models.audit_sums import (
    EXECUTION_COST_BIN,
    EXECUTION_COSTS,
    EXECUTION_DAYS,
    EXECUTION_DELTAS,
    EXECUTION_SUMS,
)
from ledger.records.verification import Fault

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection

    from ledger.queries.query import AnyRow

_MEASURES: Final = tuple(name for name, _, _ in EXECUTION_SUMS)
_NAMES: Final = ", ".join(_MEASURES)
_MADE: Final = ", ".join(f"{sql} AS {name}" for name, _, sql in EXECUTION_SUMS)
_MERGED: Final = ", ".join(
    f"{kind}({name}) AS {name}"
    for name, kind in merging(EXECUTION_RUNNING_SUMS, EXECUTION_RUNNING_SUMS.folds[0]).items()
)
_COUNTED: Final = "jsonb_strip_nulls(jsonb_build_object('executions', sum({0}))) AS {0}"
_DAY: Final = f"date_bin('1 day', {{}}, {EPOCH})"
_KEYS: Final = "day, agent_id, status"

_DIFFERENCE: Final = text(
    f"""
WITH runs AS MATERIALIZED (
  SELECT {_DAY.format("created_at")} AS day, agent_id, status, {EXECUTION_COST_BIN} AS bin, {_MADE}
  FROM ledger.{LEDGER} WHERE project_id = :project_id GROUP BY 1, 2, 3, 4),
waiting AS MATERIALIZED (
  SELECT {_DAY.format("hour")} AS day, agent_id, status, cost_bins, {_NAMES}
  FROM ledger.{EXECUTION_DELTAS} WHERE project_id = :project_id),
days AS (
  SELECT {_KEYS}, NULL::smallint AS bin, to_jsonb(r) AS of_rows, to_jsonb(s) AS of_sums
  FROM (SELECT {_KEYS}, {_MERGED} FROM runs GROUP BY {_KEYS}) AS r
  FULL JOIN (
    SELECT {_KEYS}, {_MERGED}
    FROM (
      SELECT bucket AS day, agent_id, status, {_NAMES} FROM ledger.{EXECUTION_DAYS}
      WHERE project_id = :project_id
      UNION ALL SELECT {_KEYS}, {_NAMES} FROM waiting) AS every
    GROUP BY {_KEYS}) AS s USING ({_KEYS})
  WHERE ({", ".join(f"r.{name}" for name in _MEASURES)})
    IS DISTINCT FROM ({", ".join(f"s.{name}" for name in _MEASURES)})),
bins AS (
  -- Not joined, as there are many, and to sort them twice took a third of all of verification.
  SELECT {_KEYS}, bin, {_COUNTED.format("of_rows")}, {_COUNTED.format("of_sums")}
  FROM (
    SELECT {_KEYS}, bin, executions AS of_rows, NULL::bigint AS of_sums FROM runs
    UNION ALL SELECT bucket, agent_id, status, bin, NULL, executions
    FROM ledger.{EXECUTION_COSTS} WHERE project_id = :project_id
    UNION ALL SELECT {_KEYS}, bin, NULL, 1 FROM waiting, unnest(cost_bins) AS bin) AS every
  GROUP BY {_KEYS}, bin HAVING sum(of_rows) IS DISTINCT FROM sum(of_sums))
SELECT to_char(day AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, agent_id, status, bin, of_rows, of_sums
FROM (SELECT * FROM days UNION ALL SELECT * FROM bins) AS differing
ORDER BY {_KEYS}, bin NULLS FIRST LIMIT 1"""
).bindparams(bindparam("project_id", type_=Uuid()))
"""The first day, agent and status of which the sums do not say what the rows do, at one moment."""


def fault_of_sums(connection: Connection, project_id: UUID) -> Fault | None:
    """Where the sums, which are kept apart, know of other runs than the chain."""
    found = connection.execute(_DIFFERENCE, {"project_id": project_id}).one_or_none()
    if found is None:
        return None
    of_rows, of_sums = found.of_rows or {}, found.of_sums or {}
    said = ", ".join(
        f"{name} {of_sums.get(name, 0)} and not {of_rows.get(name, 0)}"
        for name in _MEASURES
        if of_sums.get(name) != of_rows.get(name)
    )
    is_less = of_rows.get("executions", 0) < of_sums.get("executions", 0)
    return Fault(
        kind="missing" if is_less else "changed",
        sequence=None,
        run_id=None,
        detail=f"{_about(found)} say {said}, which its rows do",
    )


def _about(found: AnyRow) -> str:
    of_bin = "" if found.bin is None else f" in bin {found.bin} of cost"
    return f"the sums of {found.day} UTC, agent {found.agent_id!r}, {found.status}{of_bin},"
