"""A table as the server describes it: each column, constraint and index in its own words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.schema import CreateIndex, CreateTable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table, TextClause

_COLUMNS = """
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

_CONSTRAINTS = """
SELECT 'constraint ' || conname, pg_get_constraintdef(oid)
  || CASE WHEN convalidated THEN '' ELSE ' (not validated)' END
FROM pg_constraint WHERE conrelid = to_regclass(:table) AND contype <> 'n'"""

_RULES = """
SELECT 'policy ' || polname, 'row level security policy' FROM pg_policy
WHERE polrelid = to_regclass(:table)
UNION ALL SELECT 'rule ' || rulename, pg_get_ruledef(oid) FROM pg_rewrite
WHERE ev_class = to_regclass(:table)
UNION ALL SELECT 'row level security', 'enabled' FROM pg_class
WHERE oid = to_regclass(:table) AND relrowsecurity
UNION ALL SELECT 'persistence', 'unlogged' FROM pg_class
WHERE oid = to_regclass(:table) AND relpersistence = 'u'"""

_INDEXES = """
SELECT 'index ' || relname, pg_get_indexdef(indexrelid)
  || CASE WHEN indisvalid THEN '' ELSE ' (INVALID)' END
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = to_regclass(:table)"""

_SHAPE = text(f"{_COLUMNS} UNION ALL {_CONSTRAINTS} UNION ALL {_RULES} UNION ALL {_INDEXES}")
_INDEXES_ALONE = text(_INDEXES)

_REFERRED = re.compile(r"\bREFERENCES (ledger|pg_temp(_\d+)?)\.")
_PLACE = re.compile(r" ON (ONLY )?(\w+\.)?\w+ USING ")


def make_table(connection: Connection, table: Table) -> None:
    """Make the table and its indexes."""
    connection.execute(CreateTable(table))
    for index in table.indexes:
        connection.execute(CreateIndex(index))


def shape_of(connection: Connection, table: str) -> dict[str, str]:
    """What the table has, by "column ...", "constraint ...", "index ..."; empty of no table."""
    return _placeless(connection, _SHAPE, table)


def indexes_of(connection: Connection, table: str) -> dict[str, str]:
    """The table's indexes."""
    return _placeless(connection, _INDEXES_ALONE, table)


def _placeless(connection: Connection, statement: TextClause, table: str) -> dict[str, str]:
    """Parts and what the server says of each; where the tables lie does not count."""
    return {
        part: (
            _PLACE.sub(" USING ", words)
            if part.startswith("index ")
            else _REFERRED.sub("REFERENCES ", words)
        )
        for part, words in connection.execute(statement, {"table": table})
    }
