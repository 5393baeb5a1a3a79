"""A table as the server describes it: each column, constraint and index in its own words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

_COLUMNS = text(
    """
SELECT 'column ' || attname, format_type(atttypid, atttypmod)
  || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
  || CASE WHEN EXISTS (SELECT FROM pg_constraint WHERE conrelid = attrelid AND contype = 'n'
    AND conkey = ARRAY[attnum] AND NOT convalidated) THEN ' (not validated)' ELSE '' END
  || CASE attgenerated WHEN '' THEN '' WHEN 's' THEN ' STORED' ELSE ' VIRTUAL' END
  || coalesce(' ' || pg_get_expr(adbin, adrelid), '')
  || CASE WHEN attcollation = (SELECT typcollation FROM pg_type WHERE oid = atttypid) THEN ''
    ELSE ' COLLATE ' || attcollation::regcollation END
  || CASE attidentity WHEN '' THEN '' WHEN 'a' THEN ' IDENTITY ALWAYS' ELSE ' IDENTITY' END
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped"""
)

_CONSTRAINTS = text(
    """
SELECT 'constraint ' || conname, pg_get_constraintdef(oid)
  || CASE WHEN convalidated THEN '' ELSE ' (not validated)' END
FROM pg_constraint WHERE conrelid = to_regclass(:table) AND contype <> 'n'"""
)

_INDEXES = text(
    """
SELECT 'index ' || relname, pg_get_indexdef(indexrelid)
  || CASE WHEN indisvalid THEN '' ELSE ' (INVALID)' END
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = to_regclass(:table)"""
)

_RULES = text(
    """
SELECT 'policy ' || polname, 'row level security policy' FROM pg_policy
WHERE polrelid = to_regclass(:table)
UNION ALL SELECT 'rule ' || rulename, pg_get_ruledef(oid) FROM pg_rewrite
WHERE ev_class = to_regclass(:table)
UNION ALL SELECT 'row level security', 'enabled' FROM pg_class
WHERE oid = to_regclass(:table) AND relrowsecurity
UNION ALL SELECT 'persistence', 'unlogged' FROM pg_class
WHERE oid = to_regclass(:table) AND relpersistence = 'u'"""
)

_REFERRED = re.compile(r"\bREFERENCES (ledger|pg_temp(_\d+)?)\.")
_PLACE = re.compile(r" ON (ONLY )?(\w+\.)?\w+ USING ")


def shape_of(connection: Connection, table: str) -> dict[str, str]:
    """What the table has, by "column ...", "constraint ...", "index ..."; empty of no table."""
    parameters = {"table": table}
    shape: dict[str, str] = {}
    for statement in (_COLUMNS, _CONSTRAINTS, _RULES):
        shape |= {
            part: _REFERRED.sub("REFERENCES ", words)
            for part, words in connection.execute(statement, parameters)
        }
    return shape | indexes_of(connection, table)


def indexes_of(connection: Connection, table: str) -> dict[str, str]:
    """The table's indexes; where the table lies does not count."""
    rows = connection.execute(_INDEXES, {"table": table})
    return {part: _PLACE.sub(" USING ", words) for part, words in rows}
