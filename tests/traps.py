"""Functions, operators and types of a hostile role's own, named as those that everybody calls.

Each does what the real one does, and writes down that it was called.
"""

from __future__ import annotations

from typing import Any

import psycopg

from tests.roles import Role

HOSTILE_PATH = "public, pg_catalog"

_NAMES = (
    "now", "statement_timestamp", "clock_timestamp", "date_bin", "timezone", "to_date",
    "to_timestamp", "to_char", "set_config", "current_setting", "pg_try_advisory_xact_lock",
    "floor", "right", "substring", "uuid_send", "encode", "quote_ident",
    "to_regclass", "to_regproc", "to_regnamespace", "pg_get_viewdef", "pg_get_functiondef",
    "format_type", "pg_get_expr", "pg_get_constraintdef", "pg_get_indexdef",
    "has_function_privilege", "pg_backend_pid", "current_database", "mod", "date_part", "extract",
    "jsonb_build_object", "justify_hours", "interval",
)  # fmt: skip
_OPERATORS = ("=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "||", "->>", "?", "~")
_TYPES = (
    "timestamp with time zone", "timestamp without time zone", "interval", "date", "uuid", "text",
    "name", "boolean", "integer", "bigint", "smallint", "numeric", "double precision", "oid",
    "jsonb", "regclass", "bytea", '"char"',
)  # fmt: skip

_SPRUNG = """
CREATE TABLE public.sprung (trap text);
GRANT INSERT ON public.sprung TO PUBLIC;
CREATE FUNCTION public.spring(trap text) RETURNS boolean LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp
  AS $$ BEGIN INSERT INTO public.sprung VALUES (trap); RETURN true; END $$;"""

_OF_ANY_TYPE = """
CREATE FUNCTION public.array_lower(integer[], integer) RETURNS integer LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.spring('array_lower'); RETURN pg_catalog.array_lower($1, $2); END $$;
CREATE FUNCTION public.array_upper(bigint[], integer) RETURNS integer LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.spring('array_upper'); RETURN pg_catalog.array_upper($1, $2); END $$;
CREATE FUNCTION public.unnest(timestamptz[]) RETURNS SETOF timestamptz LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.spring('unnest'); RETURN QUERY SELECT pg_catalog.unnest($1); END $$;
CREATE FUNCTION public.unnest(integer[]) RETURNS SETOF integer LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.spring('unnest'); RETURN QUERY SELECT pg_catalog.unnest($1); END $$;
CREATE FUNCTION public.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.spring('lock'); PERFORM pg_catalog.pg_advisory_xact_lock($1); END $$;
CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.spring('format'); RETURN pg_catalog.format($1, $2); END $$;
CREATE FUNCTION public.format(text, regclass) RETURNS text LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.spring('format'); RETURN pg_catalog.format($1, $2); END $$;
CREATE FUNCTION public.counted(bigint) RETURNS bigint LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.spring('count'); RETURN $1 OPERATOR(pg_catalog.+) 1; END $$;
CREATE AGGREGATE public.count(*) (SFUNC = public.counted, STYPE = bigint, INITCOND = '0');
CREATE FUNCTION public.last(timestamptz, timestamptz) RETURNS timestamptz LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.spring('max'); RETURN greatest($1, $2); END $$;
CREATE AGGREGATE public.max(timestamptz) (SFUNC = public.last, STYPE = timestamptz);
CREATE AGGREGATE public.min(timestamptz) (SFUNC = public.last, STYPE = timestamptz);
CREATE FUNCTION public.adds(bigint, integer) RETURNS bigint LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.spring('sum'); RETURN $1 OPERATOR(pg_catalog.+) $2; END $$;
CREATE AGGREGATE public.sum(integer) (SFUNC = public.adds, STYPE = bigint, INITCOND = '0');
"""

_LIKE_THE_REAL_ONES = """DO $make$
DECLARE real record;
BEGIN
  FOR real IN SELECT oid, proname, proargtypes::regtype[] AS types, prorettype::regtype AS result
      FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'
      AND NOT proretset AND provariadic = 0 AND prorettype <> 'void'::regtype
      AND proname = ANY ('{{{names}}}')
      AND NOT EXISTS (SELECT FROM unnest(proargtypes) AS a JOIN pg_type t ON t.oid = a
                      WHERE typtype = 'p') LOOP
    EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L',
      real.proname, array_to_string(real.types, ', '), real.result,
      format('BEGIN PERFORM public.spring(%L); RETURN pg_catalog.%I(%s); END',
        real.proname, real.proname,
        (SELECT string_agg('$' || n, ', ') FROM generate_subscripts(real.types, 1) AS s,
         LATERAL (SELECT s + 1 AS n) AS of)));
  END LOOP;
  FOR real IN SELECT oid, oprname, oprleft::regtype AS l, oprright::regtype AS r,
      oprresult::regtype AS result FROM pg_operator
      WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname = ANY ('{{{operators}}}')
      AND oprleft = ANY ('{{{types}}}'::regtype[])
      AND oprright = ANY ('{{{types}}}'::regtype[]) LOOP
    EXECUTE format('CREATE FUNCTION public.operator_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L',
      real.oid, real.l, real.r, real.result,
      format('BEGIN PERFORM public.spring(%L); RETURN $1 OPERATOR(pg_catalog.%s) $2; END',
        real.oprname, real.oprname));
    EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = public.operator_%s, LEFTARG = %s,'
      ' RIGHTARG = %s)', real.oprname, real.oid, real.l, real.r);
  END LOOP;
END
$make$"""

_OF_THE_SESSION = """
CREATE DOMAIN pg_temp.timestamptz AS pg_catalog.timestamptz CHECK (public.spring('timestamptz'));
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (public.spring('text'));
CREATE DOMAIN pg_temp.uuid AS pg_catalog.uuid CHECK (public.spring('uuid'));
CREATE DOMAIN pg_temp.jsonb AS pg_catalog.jsonb CHECK (public.spring('jsonb'));
CREATE TEMPORARY VIEW pg_class AS SELECT * FROM pg_catalog.pg_class WHERE public.spring('pg_class');
CREATE TEMPORARY VIEW pg_proc AS SELECT * FROM pg_catalog.pg_proc WHERE public.spring('pg_proc');
SET search_path = pg_temp, public, pg_catalog;
"""


def set_traps(hostile: Role) -> None:
    """Of a role that may create in the schema public."""
    listed = {
        "names": ",".join(_NAMES),
        "operators": ",".join(f'"{name}"' for name in _OPERATORS),
        "types": ",".join(name.replace('"', '\\"') for name in _TYPES),
    }
    with hostile.connect() as connection:
        connection.execute("SET search_path = pg_catalog")
        for statements in (_SPRUNG, _OF_ANY_TYPE, _LIKE_THE_REAL_ONES.format(**listed)):
            connection.execute(statements.encode())


def step_among_them(connection: psycopg.Connection[Any]) -> None:
    """Make traps of the session's own too, and have it look for names among them first."""
    connection.execute(_OF_THE_SESSION.encode())


def sprung(hostile: Role) -> list[str]:
    """The names of what was called, each once."""
    rows = hostile.sql(
        "SELECT DISTINCT trap FROM public.sprung ORDER BY trap", search_path="pg_catalog"
    )
    return [trap for (trap,) in rows]
