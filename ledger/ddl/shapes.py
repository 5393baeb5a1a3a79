"""A table as the server describes it: each column, constraint and index in its own words."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.schema import CreateIndex, CreateTable

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection, Table

Shape = Mapping[str, str]
"""What a table has, by "column ...", "constraint ...", "index ..."."""

_COLUMNS = """
SELECT tables.name, 'column ' || attname, format_type(atttypid, atttypmod)
  || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
  || CASE WHEN EXISTS (SELECT FROM pg_constraint WHERE conrelid = attrelid AND contype = 'n'
    AND conkey = ARRAY[attnum] AND NOT convalidated) THEN ' (not validated)' ELSE '' END
  || CASE attgenerated WHEN '' THEN '' WHEN 's' THEN ' STORED' ELSE ' VIRTUAL' END
  || coalesce(' ' || pg_get_expr(adbin, adrelid), '')
  || CASE WHEN attcollation = (SELECT typcollation FROM pg_type WHERE oid = atttypid) THEN ''
    ELSE ' COLLATE ' || attcollation::regcollation END
  || CASE attidentity WHEN '' THEN '' WHEN 'a' THEN ' IDENTITY ALWAYS' ELSE ' IDENTITY' END
FROM tables JOIN pg_attribute ON attrelid = tables.oid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped"""

_CONSTRAINTS = """
SELECT tables.name, 'constraint ' || conname, pg_get_constraintdef(c.oid)
  || CASE WHEN convalidated THEN '' ELSE ' (not validated)' END
FROM tables JOIN pg_constraint c ON conrelid = tables.oid WHERE contype <> 'n'"""

_RULES = """
SELECT tables.name, 'policy ' || polname, 'row level security policy'
FROM tables JOIN pg_policy ON polrelid = tables.oid
UNION ALL SELECT tables.name, 'rule ' || rulename, pg_get_ruledef(r.oid)
FROM tables JOIN pg_rewrite r ON ev_class = tables.oid
UNION ALL SELECT tables.name, 'row level security', 'enabled'
FROM tables JOIN pg_class c ON c.oid = tables.oid WHERE relrowsecurity
UNION ALL SELECT tables.name, 'persistence', 'unlogged'
FROM tables JOIN pg_class c ON c.oid = tables.oid WHERE relpersistence = 'u'"""

_INDEXES = """
SELECT tables.name, 'index ' || relname, pg_get_indexdef(indexrelid)
  || CASE WHEN indisvalid THEN '' ELSE ' (INVALID)' END
FROM tables JOIN pg_index ON indrelid = tables.oid JOIN pg_class c ON c.oid = indexrelid"""

_SHAPES = (
    "WITH tables AS (SELECT oid, relname AS name FROM pg_class"
    " WHERE relnamespace = {schema} AND relname = ANY (:names)) "
    f"{_COLUMNS} UNION ALL {_CONSTRAINTS} UNION ALL {_RULES} UNION ALL {_INDEXES}"
)
_INDEXES_ALONE = text(f"WITH tables AS (SELECT to_regclass(:table) AS oid, '' AS name) {_INDEXES}")

_REFERRED = re.compile(r"\bREFERENCES (ledger|pg_temp(_\d+)?)\.")
_PLACE = re.compile(r" ON (ONLY )?(\w+\.)?\w+ USING ")


def made(table: Table) -> tuple[CreateTable, *tuple[CreateIndex, ...]]:
    """What makes the table and its indexes, where they are not there."""
    return (
        CreateTable(table, if_not_exists=True),
        *(CreateIndex(index, if_not_exists=True) for index in table.indexes),
    )


def shapes_of(connection: Connection, schema: str, names: Collection[str]) -> Mapping[str, Shape]:
    """Those of the relations of these names in the schema, which is SQL."""
    statement = text(_SHAPES.format(schema=schema))
    shapes: dict[str, dict[str, str]] = defaultdict(dict)
    for name, part, words in connection.execute(statement, {"names": sorted(names)}):
        shapes[name][part] = _placeless(part, words)
    return shapes


def indexes_of(connection: Connection, table: str) -> Shape:
    """The table's indexes."""
    found = connection.execute(_INDEXES_ALONE, {"table": table})
    return {part: _placeless(part, words) for _, part, words in found}


def _placeless(part: str, words: str) -> str:
    """What the server says of a part; where the tables lie does not count."""
    if part.startswith("index "):
        return _PLACE.sub(" USING ", words)
    return _REFERRED.sub("REFERENCES ", words)
