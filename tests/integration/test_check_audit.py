"""`check` sees what was changed of all that guards the execution ledger."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from ledger import Ledger
from ledger.ddl import migrate
from ledger.engine import engine
from ledger.errors import InvalidArgument, SchemaNotReady
from tests.audits import ALICE, PROJECT, SCOPES, TABLES, audited, execution
from tests.databases import Target
from tests.integration.test_check import Drift, drift, errors, expect
from tests.ledgers import ledger_at
from tests.roles import roles_of
from tests.writers import Kind, sql, stop_jobs

LEDGER = "ledger.execution_ledger"
ROGUE = (
    "CREATE FUNCTION public.rogue() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
)
PART = (
    (
        "CREATE TABLE public.rogue_whole"
        f" (LIKE {LEDGER} INCLUDING GENERATED) PARTITION BY LIST (status)"
    ),
    f"ALTER TABLE public.rogue_whole ATTACH PARTITION {LEDGER} DEFAULT",
)
POLICIES = dict(zip(TABLES, ("of_users", "of_projects", "of_projects"), strict=True))
OF_A_TABLE = {
    "ALTER TABLE ledger.{0} DISABLE ROW LEVEL SECURITY": "row level security of {0} is off",
    "DROP POLICY {1} ON ledger.{0}": "policy {1} on {0} is missing",
    "ALTER POLICY {1} ON ledger.{0} USING (true)": "policy {1} on {0} was changed",
    "CREATE POLICY rogue ON ledger.{0} USING (true)": "{0} has a policy that no grant made",
    "CREATE RULE swallow AS ON UPDATE TO ledger.{0} DO INSTEAD NOTHING": "rule swallow is not",
}
OF_THE_LEDGER = [
    drift(
        "key that cascades",
        f"ALTER TABLE {LEDGER} DROP CONSTRAINT execution_ledger_user_id_fkey",
        f"ALTER TABLE {LEDGER} ADD CONSTRAINT execution_ledger_user_id_fkey FOREIGN KEY (user_id)"
        " REFERENCES ledger.users (id) ON DELETE CASCADE",
        reports="constraint execution_ledger_user_id_fkey is FOREIGN KEY",
    ),
    drift(
        "lost check",
        f"ALTER TABLE {LEDGER} DROP CONSTRAINT execution_ledger_erased_check",
        reports="constraint execution_ledger_erased_check is missing",
        alembic_sees=False,
    ),
    drift(
        "keys that nobody enforces",
        "ALTER TABLE ledger.users DISABLE TRIGGER ALL",
        reports="execution_ledger_user_id_fkey is not enforced",
        alembic_sees=None,
    ),
    drift(
        "guard that lets go",
        "CREATE OR REPLACE FUNCTION ledger.guard_execution() RETURNS trigger LANGUAGE plpgsql"
        " SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NEW; END'",
        reports="routine guard_execution was changed",
    ),
    drift(
        "trigger of somebody",
        ROGUE,
        f"CREATE TRIGGER rogue BEFORE INSERT ON {LEDGER} FOR EACH ROW"
        " EXECUTE FUNCTION public.rogue()",
        reports="nobody declared the trigger rogue",
        alembic_sees=False,
    ),
    drift(
        "erasing for everybody",
        "GRANT EXECUTE ON FUNCTION ledger.erase_execution TO PUBLIC",
        reports="routine erase_execution acts as the ledger's owner, and PUBLIC may execute it",
    ),
    *(
        drift(
            f"{name} of another collation",
            f'ALTER TABLE {LEDGER} ALTER COLUMN {name} TYPE text COLLATE "C"',
            reports=f'column {name} is text{rest} COLLATE "C"; it should be text{rest}',
            alembic_sees=None,
        )
        for name, rest in (("intent", " NOT NULL"), ("error_message", ""))
    ),
    drift(
        "sequence that nobody may say",
        f"ALTER TABLE {LEDGER} ALTER COLUMN sequence ADD GENERATED ALWAYS AS IDENTITY",
        reports="column sequence is bigint NOT NULL IDENTITY ALWAYS",
        alembic_sees=None,
    ),
    drift(
        "cast that says what was hashed",
        "CREATE FUNCTION public.said(jsonb) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'",
        "CREATE CAST (jsonb AS text) WITH FUNCTION public.said(jsonb)",
        reports="casts: that of jsonb as text is by public.said(jsonb)",
        alembic_sees=False,
    ),
    *(
        drift(
            f"{parent} of which others are shown",
            f"CREATE TABLE public.beside () INHERITS (ledger.{parent})",
            reports=f"{parent}: public.beside inherits from it",
            alembic_sees=False,
        )
        for parent in ("projects", "users", "role_scopes")
    ),
    drift(
        "rule of a parent",
        "CREATE RULE swallow AS ON DELETE TO ledger.users DO INSTEAD NOTHING",
        reports="users: table users: rule swallow is not declared",
        alembic_sees=False,
    ),
    drift(
        "time of any id",
        "CREATE OR REPLACE FUNCTION ledger.uuid_time(id uuid) RETURNS timestamptz LANGUAGE sql"
        " IMMUTABLE PARALLEL SAFE RETURN now()",
        reports="uuid_time: routine uuid_time was changed",
    ),
    drift(
        "trigger by the name of one of TimescaleDB",
        ROGUE,
        f"CREATE TRIGGER ts_insert_blocker BEFORE INSERT ON {LEDGER} FOR EACH ROW"
        " EXECUTE FUNCTION public.rogue()",
        reports="execution_ledger: nobody declared the trigger ts_insert_blocker",
        alembic_sees=False,
    ),
    *(
        drift(
            f"{trigger.lower()} that says it is internal",
            ROGUE,
            f"CREATE {trigger} rogue AFTER INSERT ON {LEDGER} FOR EACH ROW"
            " EXECUTE FUNCTION public.rogue()",
            "UPDATE pg_trigger SET tgisinternal = true WHERE tgname = 'rogue'",
            reports="execution_ledger: nobody declared the trigger rogue",
            alembic_sees=False,
        )
        for trigger in ("TRIGGER", "CONSTRAINT TRIGGER")
    ),
    drift(
        "keys that nobody enforces and that say they are triggers of somebody",
        "ALTER TABLE ledger.users DISABLE TRIGGER ALL",
        "UPDATE pg_trigger SET tgisinternal = false WHERE tgconstraint <> 0",
        reports="execution_ledger_user_id_fkey is not enforced",
        alembic_sees=None,
    ),
    drift(
        "part of somebodys table",
        *PART,
        reports="execution_ledger: it is a part of public.rogue_whole",
        alembic_sees=False,
    ),
    drift(
        "trigger of a part",
        *PART,
        ROGUE,
        f"CREATE TRIGGER rogue BEFORE INSERT ON {LEDGER} FOR EACH ROW"
        " EXECUTE FUNCTION public.rogue()",
        reports="execution_ledger: nobody declared the trigger rogue",
        alembic_sees=False,
    ),
    drift(
        "heir of somebodys table",
        "CREATE TABLE public.rogue_parent (status text)",
        f"ALTER TABLE {LEDGER} INHERIT public.rogue_parent",
        reports="execution_ledger: it is a part of public.rogue_parent",
        alembic_sees=False,
    ),
    drift(
        "triggers that the catalogue denies",
        f"UPDATE pg_class SET relhastriggers = false WHERE oid = '{LEDGER}'::regclass",
        reports="execution_ledger: none of its triggers fires",
        alembic_sees=False,
    ),
    drift(
        "indexes that the catalogue denies",
        f"UPDATE pg_class SET relhasindex = false WHERE oid = '{LEDGER}'::regclass",
        reports="execution_ledger: rows are not entered into the index execution_ledger_pkey",
        alembic_sees=None,
    ),
    *(
        drift(
            f"index with {state} of false",
            f"UPDATE pg_index SET {state} = false"
            " WHERE indexrelid = 'ledger.execution_ledger_pkey'::regclass",
            reports="execution_ledger: rows are not entered into the index execution_ledger_pkey",
            alembic_sees=None,
        )
        for state in ("indisready", "indislive")
    ),
    *(
        drift(
            f"{routine.partition(' ')[0].lower()} of somebody",
            f"CREATE {routine}",
            reports="rogue: nobody declared this routine",
            alembic_sees=False,
        )
        for routine in (
            "FUNCTION ledger.rogue() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
            "PROCEDURE ledger.rogue() LANGUAGE sql AS 'SELECT 1'",
            "AGGREGATE ledger.rogue(integer) (SFUNC = int4pl, STYPE = integer)",
        )
    ),
    drift(
        "owner of the schema",
        "ALTER SCHEMA ledger OWNER TO pg_monitor",
        reports="schema ledger: it is owned by pg_monitor",
        alembic_sees=False,
    ),
    *(
        drift(
            f"{privilege} on the schema",
            f"GRANT {privilege} ON SCHEMA ledger TO {role}",
            reports=f"schema ledger: {role} may create in it",
            alembic_sees=False,
        )
        for privilege, role in (("CREATE", "PUBLIC"), ("ALL", "pg_monitor"))
    ),
    *(
        drift(
            f"replays by default of a {whose.partition(' ')[0].lower()}",
            f"DO $$BEGIN EXECUTE format('ALTER {whose} SET session_replication_role = replica',"
            " current_database(), current_user); END$$",
            reports="session_replication_role: it is replica for",
            alembic_sees=False,
        )
        for whose in ("DATABASE %1$I", "ROLE %2$I IN DATABASE %1$I")
    ),
]
DOCTORED = {
    "payload_digests": ("convert_to(", "ledger.convert_to("),
    "guard_execution": ("ledger.execution_erasures", "pg_temp.execution_erasures"),
    "extend_chain": ("ledger.execution_heads", "pg_temp.execution_heads"),
    "refuse_change": ("format(", "ledger.format("),
    "keep_rows": ("ledger.%I", "pg_temp.%I"),
}
"""What of a routine is put in the stead of what it names."""
UNDONE = {
    **{
        f"owner of {table}": [f"ALTER TABLE ledger.{table} OWNER TO pg_monitor"] for table in TABLES
    },
    **{
        f"owner of {routine}": [f"ALTER FUNCTION ledger.{routine} OWNER TO pg_monitor"]
        for routine in ("append_executions", "erase_execution", "guard_execution")
    },
    "trigger by the name of another table's": [
        ROGUE,
        f"CREATE TRIGGER tiers_keeps_rows BEFORE INSERT ON {LEDGER} EXECUTE FUNCTION rogue()",
    ],
    "rows of another table": [f"CREATE TABLE public.beside () INHERITS ({LEDGER})"],
    "owner who is shown nothing": [f"ALTER TABLE {LEDGER} FORCE ROW LEVEL SECURITY"],
    "table that a crash empties": ["ALTER TABLE ledger.execution_erasures SET UNLOGGED"],
}
"""What takes the guards away without a word about them."""


def unguarded(url: str) -> str:
    """What `ledger audit verify` says of it, which is some of what `ledger db check` does."""
    with Ledger.connect(url) as ledger:
        return "\n".join(ledger.audit.verify_all().unguarded)


@pytest.mark.parametrize("table", POLICIES)
@pytest.mark.parametrize("done", OF_A_TABLE)
def test_who_is_let_in_or_passed_over_is_reported(
    database_url: str, target: Target, done: str, table: str
) -> None:
    named, words = (table, POLICIES[table]), OF_A_TABLE[done]
    sees = not done.startswith("CREATE RULE")
    changed = drift("", done.format(*named), reports=words.format(*named), alembic_sees=sees)
    expect(changed, database_url, target, unguarded)


@pytest.mark.parametrize("drift", OF_THE_LEDGER, ids=str)
def test_drift_is_reported(drift: Drift, database_url: str, target: Target) -> None:
    if not drift.words.startswith("rogue: "):
        expect(drift, database_url, target, unguarded)
        return
    # A routine that nobody's trigger or policy calls.
    expect(drift, database_url, target)
    assert drift.words not in unguarded(database_url)


def test_a_trigger_is_not_taken_for_timescales_where_it_blocks_no_inserts_of_a_hypertable(
    database_url: str,
) -> None:
    blocker = ROGUE.replace("public.rogue", "_timescaledb_functions.insert_blocker")
    sql(database_url, "CREATE SCHEMA IF NOT EXISTS _timescaledb_functions")
    sql(database_url, blocker.replace("CREATE", "CREATE OR REPLACE", 1))
    for table in (LEDGER, "ledger.execution_erasures", "ledger.users"):
        sql(
            database_url,
            f"CREATE TRIGGER ts_insert_blocker BEFORE INSERT ON {table} FOR EACH ROW"
            " EXECUTE FUNCTION _timescaledb_functions.insert_blocker()",
        )
        said = f"{table.removeprefix('ledger.')}: nobody declared the trigger ts_insert_blocker"
        assert said in "\n".join(errors(database_url))
        assert said in unguarded(database_url)


def test_an_event_trigger_that_could_forge_a_comparison_is_told(database_url: str) -> None:
    sql(
        database_url,
        "CREATE FUNCTION public.forge() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
    )
    sql(
        database_url,
        "CREATE EVENT TRIGGER forge ON ddl_command_end EXECUTE FUNCTION public.forge()",
    )
    told = [str(each) for each in migrate.check(database_url) if each.is_warning]
    assert any(each.startswith("event trigger forge: it runs with") for each in told)
    sql(database_url, "DROP EVENT TRIGGER forge")
    assert "event trigger" not in "\n".join(map(str, migrate.check(database_url)))


@pytest.mark.parametrize("kind", ["called", "awaited"])
@pytest.mark.parametrize(
    "done, said",
    [
        ("ALTER TABLE {0} DROP COLUMN error_message CASCADE", "column error_message is missing"),
        ("DROP TABLE ledger.execution_erasures CASCADE", "table execution_erasures is missing"),
        ("DROP TABLE ledger.execution_heads CASCADE", "table execution_heads is missing"),
        ("ALTER TABLE {0} SET SCHEMA public", "table execution_ledger is missing"),
        ("DROP TABLE ledger.execution_days", "table execution_days is missing"),
        ("DROP FUNCTION ledger.payload_digests", "routine payload_digests is missing"),
    ],
)
def test_where_something_was_taken_away_verification_says_what(
    database_url: str, kind: Kind, done: str, said: str
) -> None:
    with audited(database_url, execution()):
        pass
    sql(database_url, done.format(LEDGER))
    with ledger_at(database_url, kind) as ledger:
        found = ledger.audit.verify_all()

    assert not found.is_intact
    assert found.projects == ()
    assert found.unguarded[0].startswith("execution_ledger: no chain can be verified: ")
    assert "does not exist" in found.unguarded[0]
    assert said in "\n".join(found.unguarded)


@pytest.mark.parametrize("revision", ["0029", "0031", "0034"])
def test_a_ledger_of_another_version_is_not_taken_for_one_that_was_tampered_with(
    database_url: str, revision: str
) -> None:
    migrate.downgrade(database_url, revision)
    with (
        Ledger.connect(database_url) as ledger,
        pytest.raises(SchemaNotReady, match=f"at revision {revision}, .* `ledger db upgrade`"),
    ):
        ledger.audit.verify_all()


@pytest.mark.parametrize("revision", ["0029", "head"])
def test_a_replica_that_cannot_be_read_is_no_fault_of_an_intact_ledger(
    database_url: str, empty_database_url: str, target: Target, revision: str
) -> None:
    migrate.upgrade(
        empty_database_url, revision, storage=target.storage, percentiles=target.percentiles
    )
    stop_jobs(empty_database_url)
    if revision == "head":
        sql(empty_database_url, "DROP TABLE ledger.execution_erasures CASCADE")
    with (
        Ledger.connect(database_url, read_url=empty_database_url) as ledger,
        pytest.raises(SchemaNotReady),
    ):
        ledger.audit.verify_all()


def test_a_host_may_have_columns_and_indexes_of_its_own_on_parents(database_url: str) -> None:
    sql(database_url, "ALTER TABLE ledger.users ADD COLUMN note text")
    sql(database_url, "CREATE INDEX mine ON ledger.projects (name)")
    assert unguarded(database_url) == ""
    assert len(errors(database_url)) == 2
    sql(database_url, "ALTER TABLE ledger.users ALTER COLUMN id DROP DEFAULT")
    assert "users: table users: column id is" in unguarded(database_url)


def test_what_compares_is_not_bound_to_a_connection_that_commits_each_statement(
    database_url: str,
) -> None:
    own = engine(database_url)
    with (
        own.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        pytest.raises(InvalidArgument, match="commits each statement"),
    ):
        Ledger.bound(connection).audit.verify_all()
    own.dispose()


@pytest.mark.parametrize("done", UNDONE.values(), ids=UNDONE)
def test_what_undoes_the_guards_is_reported(database_url: str, done: list[str]) -> None:
    for statement in done:
        sql(database_url, statement)
    assert errors(database_url) != []
    assert unguarded(database_url) != ""


@pytest.mark.parametrize("done", ["DROP POLICY {0} ON {1}", "ALTER POLICY {0} ON {1} USING (true)"])
def test_a_grants_policy_that_was_changed_is_reported(database_url: str, done: str) -> None:
    with roles_of(database_url) as roles:
        role = roles.granted("auditor", projects=[PROJECT])
        [(policy,)] = roles.own(
            "SELECT polname FROM pg_policy WHERE polname LIKE 'auditor%'"
            f" AND polrelid = '{LEDGER}'::regclass"
        )
        roles.own(done.format(policy, LEDGER))
        said = "\n".join(errors(database_url))
        assert f"policy {policy} on execution_ledger" in said
        missing = f"is missing: ledger db grant {role.name} --as auditor"
        assert (missing in said) == done.startswith("DROP")


@pytest.mark.parametrize(
    "done, words",
    [
        ("ALTER TABLE {0} DISABLE TRIGGER {1}", "is disabled"),
        ("ALTER TABLE {0} ENABLE REPLICA TRIGGER {1}", "is on replicas only"),
        ("ALTER TABLE {0} ENABLE TRIGGER {1}", "is on origin only, not always"),
        ("DROP TRIGGER {1} ON {0}", "is missing"),
    ],
)
def test_every_trigger_that_does_not_fire_as_it_should_is_reported(
    database_url: str, done: str, words: str
) -> None:
    triggers = sql(
        database_url,
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal"
        " AND tgname ~ '^(execution|projects|users)_'"
        f" AND (tgenabled = 'A' OR '{words}' !~ 'not always')",
    )
    assert len(triggers) >= 17
    for table, trigger in triggers:
        sql(database_url, done.format(table, trigger))
    found, verified = "\n".join(errors(database_url)), unguarded(database_url)
    for table, trigger in triggers:
        said = f"trigger {trigger} on {table.removeprefix('ledger.')} {words}"
        assert said in found
        assert said in verified


def test_every_routine_that_was_changed_is_reported(database_url: str) -> None:
    routines = sql(
        database_url,
        "SELECT oid::regprocedure::text, proname FROM pg_proc WHERE prokind = 'f'"
        " AND pronamespace = 'ledger'::regnamespace"
        " AND proname ~ 'execution|chain|head|digests|keep_rows'",
    )
    assert len(routines) >= 10
    for routine, _ in routines:
        sql(database_url, f"ALTER ROUTINE {routine} COST 7")
    found, verified = "\n".join(errors(database_url)), unguarded(database_url)
    for _, name in routines:
        assert f"routine {name} was changed" in found
        assert f"routine {name} was changed" in verified


@pytest.mark.parametrize("routine", DOCTORED)
def test_a_routine_that_names_what_lies_elsewhere_is_reported(
    database_url: str, routine: str
) -> None:
    own, others = DOCTORED[routine]
    sql(
        database_url,
        "CREATE FUNCTION ledger.convert_to(text, name) RETURNS bytea LANGUAGE sql"
        " AS 'SELECT NULL::bytea'",
    )
    asked = f"SELECT pg_get_functiondef('ledger.{routine}'::regproc)"
    [(definition,)] = sql(database_url, asked)
    sql(database_url, definition.replace(own, others))
    assert sql(database_url, asked) != [(definition,)]
    assert f"routine {routine} was changed" in "\n".join(errors(database_url))


def test_a_session_that_replays_is_reported(database_url: str) -> None:
    options = {"options": "-c session_replication_role=replica"}
    replaying = make_url(database_url).update_query_dict(options)
    url = replaying.render_as_string(hide_password=False)
    assert [found.partition(":")[0] for found in errors(url)] == ["session_replication_role"]


def test_check_is_clean_at_first_with_grants_and_after_down_and_up(
    database_url: str, target: Target
) -> None:
    assert errors(database_url) == []
    with roles_of(database_url) as roles:
        granted = {scope: roles.create() for scope in SCOPES}
        for scope, role in granted.items():
            scope.granted_to(roles, role)
        assert errors(database_url) == []
        migrate.downgrade(database_url, "0029")
        migrate.upgrade(database_url, storage=target.storage, percentiles=target.percentiles)
        assert errors(database_url) == []
        with audited(database_url, execution()) as ledger:
            ledger.audit.erase_payload("run", "a request")
        for scope, role in granted.items():
            found = role.sql("SELECT run_id FROM ledger.execution_ledger")
            assert found == [("run",)] * scope.has(ALICE, PROJECT)
