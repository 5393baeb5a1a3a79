"""What is in the schema that nobody declared, and what undoes what is declared there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from ledger.ddl import append_only, execution_chain, kept_rows, running_sums, touch_log
from ledger.ddl.declared import DECLARED, RUNNING_SUMS
from ledger.ddl.difference import Difference
from ledger.ddl.objects import AppendOnly, ExecutionChain, KeptRows, Rollup, TimeSeries
from ledger.models.base import Base

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy import Connection

_KNOWN = {"alembic_version"}

_RELATIONS = text(
    "SELECT relname, relkind FROM pg_class WHERE relnamespace = to_regnamespace('ledger')"
    " AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition ORDER BY relname"
)

_ROUTINES = text(
    "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = to_regnamespace('ledger') ORDER BY 1"
)

# What enforces a constraint is known by its function: `tgisinternal` is anybody's to claim who
# writes to the catalogue, and CREATE CONSTRAINT TRIGGER makes triggers that have a constraint.
_TRIGGERS = text(
    "SELECT c.relname, tgname FROM pg_trigger"
    " JOIN pg_class c ON c.oid = tgrelid JOIN pg_proc p ON p.oid = tgfoid"
    " WHERE relnamespace = to_regnamespace('ledger')"
    " AND NOT (tgconstraint <> 0 AND pronamespace = to_regnamespace('pg_catalog'))"
    # A hypertable's, which TimescaleDB made: its function belongs to the extension.
    " AND NOT (tgname = 'ts_insert_blocker' AND relname = ANY (:time_series)"
    " AND EXISTS (SELECT FROM pg_depend JOIN pg_extension e ON e.oid = refobjid"
    " WHERE classid = 'pg_proc'::regclass AND objid = tgfoid AND deptype = 'e'"
    " AND refclassid = 'pg_extension'::regclass AND extname = 'timescaledb'))"
    " AND NOT (relname LIKE 'llm_requests_p%' AND tgparentid <> 0) ORDER BY 1, 2"
)

_AMISS = {
    "the foreign key {} is not enforced, as its triggers are disabled": (
        "SELECT DISTINCT relname, conname FROM pg_trigger"
        " JOIN pg_constraint c ON c.oid = tgconstraint JOIN pg_class t ON t.oid = conrelid"
        " WHERE connamespace = to_regnamespace('ledger') AND contype = 'f'"
        " AND tgenabled IN ('D', 'R') ORDER BY 1, 2"
    ),
    "none of its triggers fires, as pg_class.relhastriggers is false": (
        "SELECT relname FROM pg_class c WHERE relnamespace = to_regnamespace('ledger')"
        " AND NOT relhastriggers AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid)"
        " ORDER BY 1"
    ),
    # One that is INVALID is seen as such, also while it is built or dropped concurrently.
    "rows are not entered into the index {}, which keeps nothing unique then; REINDEX it": (
        "SELECT t.relname, i.relname FROM pg_index JOIN pg_class t ON t.oid = indrelid"
        " JOIN pg_class i ON i.oid = indexrelid WHERE t.relnamespace = to_regnamespace('ledger')"
        " AND indisvalid AND NOT (indisready AND indislive AND t.relhasindex) ORDER BY 1, 2"
    ),
    "it is owned by {}, and the ledger by {}": (
        "SELECT name, pg_get_userbyid(owner), pg_get_userbyid(ledgers.relowner) FROM ("
        "SELECT relname AS name, relowner AS owner FROM pg_class"
        " WHERE relnamespace = to_regnamespace('ledger')"
        " UNION ALL SELECT proname, proowner FROM pg_proc"
        " WHERE pronamespace = to_regnamespace('ledger')"
        " UNION ALL SELECT 'schema ledger', nspowner FROM pg_namespace WHERE nspname = 'ledger'"
        ") AS every, pg_class ledgers"
        " WHERE ledgers.oid = to_regclass('ledger.installation') AND owner <> ledgers.relowner"
        " ORDER BY 1"
    ),
    "{0} may create in it beside its owner: REVOKE CREATE ON SCHEMA ledger FROM {0}": (
        "SELECT 'schema ledger',"
        " CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END"
        " FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'ledger'"
        " AND privilege_type = 'CREATE' AND grantee <> nspowner ORDER BY 2"
    ),
    "{} inherits from it, and its rows are shown with its own": (
        "SELECT parent.relname, inhrelid::regclass::text FROM pg_inherits"
        " JOIN pg_class parent ON parent.oid = inhparent"
        " JOIN pg_class child ON child.oid = inhrelid"
        " WHERE parent.relnamespace = to_regnamespace('ledger') AND parent.relkind = 'r' AND NOT"
        " (parent.relname = 'llm_requests' AND child.relnamespace::regnamespace::text ="
        " '_timescaledb_internal') ORDER BY 1, 2"
    ),
    "it is a part of {}, whose rows come and go past triggers and policies": (
        "SELECT relname, inhparent::regclass::text FROM pg_inherits"
        " JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE relnamespace = to_regnamespace('ledger') AND relkind IN ('r', 'p', 'f')"
        " AND inhparent IS DISTINCT FROM to_regclass('ledger.llm_requests') ORDER BY 1, 2"
    ),
    "that of {} as {} is by {}, and what is read or hashed may be anything": (
        "SELECT 'casts', castsource::regtype, casttarget::regtype, castfunc::regprocedure"
        " FROM pg_cast JOIN pg_proc f ON f.oid = castfunc"
        " JOIN pg_type s ON s.oid = castsource JOIN pg_type t ON t.oid = casttarget"
        " WHERE ARRAY[s.typnamespace, t.typnamespace] <@ ARRAY['pg_catalog'::regnamespace::oid]"
        " AND pronamespace <> 'pg_catalog'::regnamespace ORDER BY 2, 3"
    ),
    "it is replica for {}, whose rows come past triggers and foreign keys": (
        "SELECT 'session_replication_role', 'this session'"
        " WHERE current_setting('session_replication_role') = 'replica'"
        " UNION ALL SELECT 'session_replication_role', CASE setrole WHEN 0 THEN 'every role'"
        " ELSE pg_get_userbyid(setrole) END FROM pg_db_role_setting"
        " WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname ="
        " current_database())) AND EXISTS (SELECT FROM unnest(setconfig) AS setting"
        " WHERE lower(setting) = 'session_replication_role=replica') ORDER BY 2"
    ),
}
"""What is wrong with an object, and the query of such: its name, and what the words lack."""


def _declared_triggers() -> set[tuple[str, str]]:
    """(table, name) of each."""
    found = {(sums.table, sums.trigger) for sums in RUNNING_SUMS}
    for target in DECLARED:
        if isinstance(target, TimeSeries):
            events = touch_log.triggers(target.name)
            found |= {(target.name, f"{target.name}_touched_by_{event}") for event in events}
        elif isinstance(target, AppendOnly):
            found |= {(target.name, name) for name in append_only.triggers(target)}
        elif isinstance(target, KeptRows):
            found |= {(target.name, name) for name in kept_rows.triggers(target)}
        elif isinstance(target, ExecutionChain):
            chained = execution_chain.triggers(target)
            found |= {(table, name) for name, (table, _) in chained.items()}
    return found


def _declared_relations() -> set[str]:
    rollups = [target for target in DECLARED if isinstance(target, Rollup)]
    declared = (
        _KNOWN
        | {target.name for target in DECLARED}
        | {t.name for t in Base.metadata.tables.values()}
    )
    declared |= {f"{rollup.name}_materialized" for rollup in rollups}
    for sums in RUNNING_SUMS:
        declared |= set(running_sums.table_names(sums))
    return declared | {f"{t.name}_touched" for t in DECLARED if isinstance(t, TimeSeries)}


def strangers(connection: Connection, routines: Collection[str]) -> Iterator[Difference]:
    """What nobody declared, and who has a hand in what is; ``routines`` are the declared ones."""
    declared = _declared_relations()
    for name, kind in connection.execute(_RELATIONS):
        if name.startswith("llm_requests_p") and kind == "r":
            yield Difference(
                object=name,
                problem="a day that was detached and not yet rolled up for the last time;"
                " `ledger maintain` finishes it",
                is_warning=True,
            )
        elif name not in declared:
            yield Difference(object=name, problem="nobody declared this relation")
    for name in connection.execute(_ROUTINES).scalars():
        if name not in routines:
            yield Difference(object=name, problem="nobody declared this routine")
    expected = _declared_triggers()
    series = [target.name for target in DECLARED if isinstance(target, TimeSeries)]
    for table, trigger in connection.execute(_TRIGGERS, {"time_series": series}):
        if (table, trigger) not in expected:
            yield Difference(object=table, problem=f"nobody declared the trigger {trigger}")
    for words, query in _AMISS.items():
        for name, *rest in connection.execute(text(query)):
            yield Difference(object=name, problem=words.format(*rest))
