"""What a role defines or calls never runs with another's rights, and widens nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from ledger.ddl.access import KINDS
from ledger.ddl.migrate import check
from tests.books import OTHER_USER, USER, call, opened
from tests.databases import Databases, Target
from tests.roles import Role, Roles, roles_of

VIEWS = ("visible_requests", "visible_metrics_1m", "visible_metrics_1h")
DENIED = psycopg.errors.InsufficientPrivilege


@pytest.fixture(scope="module")
def filled_url(databases: Databases, target: Target) -> Iterator[str]:
    """A database with a call of two users each, which no role should be able to change."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    with opened(url, target) as books:
        books.write(call(books.now - timedelta(days=2), number) for number in range(2))
        books.ledger.maintenance.run()
    if target.storage == "postgres":
        books.sql("CREATE TABLE ledger.llm_requests_p20260101 (LIKE ledger.llm_requests)")
    yield url
    databases.drop(name)


@pytest.fixture
def roles(filled_url: str) -> Iterator[Roles]:
    with roles_of(filled_url) as roles:
        yield roles


def granted(roles: Roles, kind: str) -> Role:
    return roles.granted(kind, [USER] if kind == "reader" else [])


IMPOSTORS = """
CREATE SCHEMA impostor;
CREATE FUNCTION impostor.current_setting(text, boolean) RETURNS text
  LANGUAGE sql AS $$ SELECT '{victim}' $$;
CREATE FUNCTION impostor.pick(uuid[], uuid) RETURNS uuid[]
  LANGUAGE sql AS $$ SELECT ARRAY['{victim}'::uuid] $$;
CREATE AGGREGATE impostor.array_agg(uuid)
  (SFUNC = impostor.pick, STYPE = uuid[], INITCOND = '{{}}');
CREATE FUNCTION impostor.always(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION impostor.always(text, name) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION impostor.always(uuid, uuid) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE OPERATOR impostor.= (FUNCTION = impostor.always, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR impostor.= (FUNCTION = impostor.always, LEFTARG = text, RIGHTARG = name);
CREATE OPERATOR impostor.= (FUNCTION = impostor.always, LEFTARG = uuid, RIGHTARG = uuid);
CREATE TEMPORARY VIEW my_scopes AS SELECT 'auditor' AS kind, NULL::uuid AS user_id;
CREATE TEMPORARY VIEW role_scopes AS
  SELECT current_user::text AS role, 'auditor' AS kind, NULL::uuid AS user_id;
SET search_path = pg_temp, impostor, pg_catalog;
"""
"""What the SQL that decides a scope would run, were it read by the reader's search_path."""


def test_a_readers_own_functions_and_operators_do_not_decide_what_it_sees(roles: Roles) -> None:
    reader = granted(roles, "reader")
    (name,) = roles.own("SELECT current_database()")[0]
    roles.own(f'GRANT CREATE ON DATABASE "{name}" TO "{reader.name}"')

    with reader.connect() as connection:
        connection.execute(IMPOSTORS.format(victim=OTHER_USER).encode())
        for view in VIEWS:
            rows = connection.execute(f"SELECT user_id FROM ledger.{view}".encode()).fetchall()
            assert rows == [(USER,)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_role_may_create_anything_in_the_schema(roles: Roles, kind: str) -> None:
    role = granted(roles, kind)
    forbidden = (DENIED, psycopg.errors.FeatureNotSupported)  # no rules on hypertables at all

    for statement in (
        "CREATE TABLE ledger.mine ()",
        "CREATE VIEW ledger.mine AS SELECT 1",
        "CREATE FUNCTION ledger.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE VIEW ledger.my_scopes AS SELECT 'auditor' AS kind, NULL::uuid",
        "CREATE RULE mine AS ON INSERT TO ledger.llm_requests DO INSTEAD NOTHING",
        "ALTER FUNCTION ledger.raw_from() RESET search_path",
    ):
        with pytest.raises(forbidden):
            role.sql(statement)


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_role_may_change_or_take_away_rows(roles: Roles, kind: str) -> None:
    role = granted(roles, kind)

    for statement in (
        "UPDATE ledger.llm_requests SET cost_usd = 0",
        "DELETE FROM ledger.llm_requests",
        "TRUNCATE ledger.llm_requests",
        "DELETE FROM ledger.visible_requests",
        "INSERT INTO ledger.role_scopes (role, kind) VALUES (current_user, 'auditor')",
        "UPDATE ledger.installation SET retention = '{}'",
        "UPDATE ledger.rollup_progress SET watermark = 'infinity'",
    ):
        with pytest.raises((DENIED, psycopg.errors.ObjectNotInPrerequisiteState)):
            role.sql(statement)


def test_what_acts_as_the_owner_has_a_fixed_search_path_and_is_not_everybodys(
    roles: Roles,
) -> None:
    rows = roles.own(
        "SELECT proname, proconfig, has_function_privilege('public', oid, 'EXECUTE')"
        " FROM pg_proc WHERE pronamespace = 'ledger'::regnamespace AND prosecdef"
    )

    assert {"raw_from", "requests_by_key"} <= {name for name, _, _ in rows}
    for name, settings, is_everybodys in rows:
        assert settings == ["search_path=pg_catalog, pg_temp"], name
        assert not is_everybodys, name


def test_the_check_sees_that_everybody_may_act_as_the_owner(database_url: str) -> None:
    with roles_of(database_url) as roles:
        roles.own("GRANT EXECUTE ON FUNCTION ledger.requests_by_key TO PUBLIC")

    problems = [str(found) for found in check(database_url) if "PUBLIC" in found.problem]
    assert len(problems) == 1
    assert problems[0].startswith("requests_by_key: ")


def test_a_reader_cannot_ask_for_others_rows_by_key_nor_make_days(
    roles: Roles, target: Target
) -> None:
    reader = granted(roles, "reader")

    with pytest.raises(DENIED):
        reader.sql("SELECT * FROM ledger.requests_by_key('{}', '{}', '{}')")
    if target.storage == "postgres":
        with pytest.raises(DENIED):
            reader.sql("SELECT ledger.ensure_days(ARRAY[current_date])")


@pytest.mark.parametrize("kind", KINDS)
def test_what_maintenance_calls_does_nothing_for_a_granted_role(
    roles: Roles, target: Target, kind: str
) -> None:
    role = granted(roles, kind)
    calls = ["CALL ledger.refresh_metrics()"]
    if target.storage == "postgres":
        calls = [
            "SELECT ledger.refresh_metrics()",
            "SELECT ledger.retire_day('llm_requests_p20260101')",
            "SELECT ledger.rebuild_llm_metrics_1h('{2026-01-01}', ARRAY[gen_random_uuid()])",
        ]

    for statement in calls:
        with role.connect() as connection, pytest.raises(DENIED):
            # Outside a transaction, as the procedure commits.
            connection.execute(statement.encode())


@pytest.mark.storage("postgres")
def test_the_log_of_touched_hours_is_not_written_from_a_table_of_a_readers_own(
    roles: Roles,
) -> None:
    reader = granted(roles, "reader")

    with reader.connect() as connection:
        connection.execute("CREATE TEMPORARY TABLE mine (timestamp timestamptz, user_id uuid)")
        with pytest.raises(DENIED):
            connection.execute(
                "CREATE TRIGGER spam AFTER INSERT ON mine REFERENCING NEW TABLE AS changed"
                " FOR EACH STATEMENT EXECUTE FUNCTION ledger.log_llm_requests_touched()"
            )


def keys_of(roles: Roles, user: UUID) -> str:
    """That user's only key, as the arguments of requests_by_key."""
    (key,) = roles.own(
        "SELECT format('ARRAY[%L::uuid], ARRAY[%L::timestamptz], ARRAY[%L::uuid]',"
        f" user_id, timestamp, id) FROM ledger.llm_requests WHERE user_id = '{user}'"
    )[0]
    return str(key)


def test_a_writer_gets_just_the_rows_whose_keys_it_has(roles: Roles) -> None:
    writer = granted(roles, "writer")
    key = keys_of(roles, USER)

    assert writer.sql(f"SELECT user_id FROM ledger.requests_by_key({key})") == [(USER,)]
    other_time = key.replace("'::timestamptz", "'::timestamptz + INTERVAL '1 ms'")
    other_user = key.replace(str(USER), str(OTHER_USER))
    for wrong in (other_time, other_user):
        assert writer.sql(f"SELECT 1 FROM ledger.requests_by_key({wrong})") == []
