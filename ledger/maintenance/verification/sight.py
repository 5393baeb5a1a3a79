"""What the database role that verifies may look at; the rest is said to be unseen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from ledger.models.base import SCHEMA, Base
from ledger.models.billing import TokenUsage
from ledger.models.billing_sums import DELTAS
from ledger.records.plain import Record

if TYPE_CHECKING:
    from sqlalchemy import Connection

TABLE: Final = TokenUsage.__tablename__
QUALIFIED: Final = f"{SCHEMA}.{TABLE}"
USAGE: Final = Base.metadata.tables[QUALIFIED]
"""The token usage ledger as it is declared."""

_SIGHT: Final = text(
    """
SELECT current_user::text AS role, c.oid IS NOT NULL AS has_table,
  coalesce(pg_has_role(c.relowner, 'USAGE'), false)
    AND NOT current_setting('transaction_read_only')::boolean AS compares_all,
  coalesce(has_table_privilege(c.oid, 'SELECT'), false) AS reads_rows,
  coalesce(NOT row_security_active(c.oid), false) OR EXISTS (
    SELECT FROM pg_policy WHERE polrelid = c.oid AND polpermissive AND polcmd IN ('r', '*')
    AND pg_get_expr(polqual, polrelid) = 'true'
    AND EXISTS (SELECT FROM unnest(polroles) AS r
      WHERE CASE WHEN r = 0 THEN true ELSE pg_has_role(r, 'USAGE') END)) AS sees_every_row,
  coalesce(has_table_privilege(to_regclass(:deltas), 'SELECT'), false) AS reads_deltas
FROM (SELECT 1) AS always LEFT JOIN pg_class c ON c.oid = to_regclass(:table)"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight(Record):
    """What of the token usage ledger a role has before it."""

    role: str
    has_table: bool
    """Whether there is a ledger to look at."""
    compares_all: bool
    """Whether it can compare everything: it is the owner, where something may be written."""
    reads_rows: bool
    sees_every_row: bool
    """Whether row level security hides nothing from it."""
    reads_deltas: bool

    @property
    def counts_rows(self) -> bool:
        """Whether what it counts is all there is."""
        return self.has_table and self.reads_rows and self.sees_every_row


def sight_of(connection: Connection) -> Sight:
    """What the connection's role may look at."""
    names = {"table": QUALIFIED, "deltas": f"{SCHEMA}.{DELTAS}"}
    return Sight(**connection.execute(_SIGHT, names).mappings().one())
