"""What a schema has, as the server describes it: in words of its own, whoever made it how."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from ledger.ddl.shapes import shapes_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import Connection

    from ledger.ddl.shapes import Shape

LEDGER: Final = "to_regnamespace('ledger')"
TEMPORARY: Final = "pg_my_temp_schema()"
"""Schemas, as SQL."""

_ROUTINES = """
SELECT proname, pg_get_functiondef(oid) FROM pg_proc
WHERE pronamespace = {schema} AND prokind <> 'a' AND proname = ANY (:names)"""
_VIEWS = """
SELECT relname, pg_get_viewdef(oid), ARRAY(SELECT option_name::text
  FROM pg_options_to_table(reloptions) WHERE option_value::boolean) FROM pg_class
WHERE relnamespace = {schema} AND relkind = 'v' AND relname = ANY (:names)"""
_TRIGGERS = """
SELECT relname, tgname, tgenabled::text, pg_get_triggerdef(t.oid)
FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
WHERE relnamespace = {schema} AND relname = ANY (:names)"""
_POLICIES = """
SELECT relname, polname, polpermissive, polcmd::text, polroles,
  pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
FROM pg_policy JOIN pg_class c ON c.oid = polrelid
WHERE relnamespace = {schema} AND relname = ANY (:names)"""

_PLACE_OF_TRIGGER = re.compile(r" ON (\w+\.)?\w+ ")
_PLACE_OF_ROUTINE = re.compile(r"\A(CREATE OR REPLACE \w+ )\w+\.\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Objects of one schema by their names, which are left out of the words, as is the schema."""

    shapes: Mapping[str, Shape]
    routines: Mapping[str, Sequence[str]]
    """Of a name there may be several."""
    views: Mapping[str, tuple[str, Collection[str]]]
    """The query, and the options that are on."""
    triggers: Mapping[tuple[str, str], tuple[str, str]]
    """By table and name: when it fires, and what it is."""
    policies: Mapping[str, Mapping[str, tuple[Any, ...]]]
    """By table."""


def described(connection: Connection, schema: str, names: Collection[str]) -> Described:
    """The objects of these names in the schema, and what is on tables of these names."""
    given = {"names": sorted(names)}

    def rows(query: str) -> Sequence[Sequence[Any]]:
        return connection.execute(text(query.format(schema=schema)), given).all()

    routines: dict[str, list[str]] = defaultdict(list)
    for name, definition in rows(_ROUTINES):
        # Its own schema alone: one that its body names is part of what it does.
        routines[name].append(_PLACE_OF_ROUTINE.sub(r"\1", definition))
    policies: dict[str, dict[str, tuple[Any, ...]]] = defaultdict(dict)
    for table, name, *rest in rows(_POLICIES):
        policies[table][name] = tuple(rest)
    return Described(
        shapes=shapes_of(connection, schema, names),
        routines=routines,
        views={name: (query, options) for name, query, options in rows(_VIEWS)},
        triggers={
            (table, name): (fires, _PLACE_OF_TRIGGER.sub(" ON table ", definition))
            for table, name, fires, definition in rows(_TRIGGERS)
        },
        policies=policies,
    )
