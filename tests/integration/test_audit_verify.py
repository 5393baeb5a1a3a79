"""Whoever goes under the database and changes what was recorded is found out, and named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, make_url, text

from ledger import AsyncLedger, Ledger
from ledger.engine import async_engine, engine
from ledger.errors import AppendOnlyViolation, InvalidArgument, UnknownReference
from ledger.maintenance.audit.checkpoints import checkpoint
from ledger.maintenance.audit.statements import chain_in_shares
from ledger.maintenance.audit.verify import verify
from ledger.queries.execution_sums import MEASURES
from ledger.records.checkpoint import Checkpoint
from ledger.records.verification import Fault, Verification
from tests.audits import (
    FORGED_ERASURE,
    OF_ERASURE,
    OTHER_PROJECT,
    PROJECT,
    audited,
    execution,
)
from tests.catalogues import is_waiting_for_a_lock
from tests.databases import Databases, Target
from tests.ledgers import LONG_AGO, ledger_at
from tests.roles import roles_of
from tests.servers import libpq
from tests.writers import Kind, sql, stop_jobs, superuser

RUNS = 9
"""Of each project."""
ERASED = 4
"""The one whose payloads are erased."""

PAYLOADS = {
    "intent": "'something else'",
    "input": """'{"amount": 99}'""",
    "output": "NULL",
    "cost_json": """jsonb_set(cost_json, '{breakdown}', '{"tokens": 1}')""",
    "execution_trace_json": """jsonb_set(execution_trace_json, '{steps}', '[]')""",
    "error_message": "'nothing of note'",
    "salt": "decode(repeat('ab', 32), 'hex')",
}
OTHERS = {
    "run_id": "run_id || 'x'",
    "parent_run_id": "'another-run'",
    "user_id": "gen_random_uuid()",
    "agent_id": "'another agent'",
    "status": "'aborted'",
    "created_at": "created_at + interval '1 hour'",
    "recorded_at": "recorded_at - interval '1 day'",
    "id": "gen_random_uuid()",
    "hash": "decode(repeat('cd', 32), 'hex')",
    "previous_hash": "decode(repeat('ef', 32), 'hex')",
    "payload_digests": "decode(repeat('01', 192), 'hex')",
    "total_cost_cents": "total_cost_cents + 1",
    "duration_ms": "duration_ms + 1",
    "hash_version": "2",
}
COLUMNS = {**PAYLOADS, **OTHERS}

UNGUARDED = """
ALTER TABLE ledger.execution_ledger DISABLE TRIGGER ALL;
ALTER TABLE ledger.execution_ledger ALTER COLUMN total_cost_cents DROP EXPRESSION;
ALTER TABLE ledger.execution_ledger ALTER COLUMN duration_ms DROP EXPRESSION;
ALTER TABLE ledger.execution_ledger
  DROP CONSTRAINT execution_ledger_project_id_sequence_key CASCADE;
ALTER TABLE ledger.execution_ledger DROP CONSTRAINT execution_ledger_run_id_key;
ALTER TABLE ledger.execution_ledger DROP CONSTRAINT execution_ledger_pkey;
ALTER TABLE ledger.execution_heads DISABLE TRIGGER ALL;
ALTER TABLE ledger.execution_erasures DISABLE TRIGGER ALL;
"""
"""What a superuser does first. TimescaleDB or not, it is undone with the transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """Two projects' runs, and a superuser's way round what guards them."""

    engine: Engine
    ledger: Ledger
    project: UUID
    other: UUID

    def tampered(
        self, *statements: str, taken: Checkpoint | None = None, also: str = UNGUARDED
    ) -> Verification:
        """What verification says after these statements, which are undone."""
        with self.engine.connect() as connection:
            _drop_checks(connection)
            for statement in (also, *statements):
                connection.exec_driver_sql(
                    statement.replace("{project}", f"'{self.project}'").replace("%", "%%")
                )
            found = verify(connection, self.project, taken)
            connection.rollback()
        return found

    def checkpoint(self) -> Checkpoint:
        with self.engine.connect() as connection:
            return checkpoint(connection, None)


def _drop_checks(connection: Connection) -> None:
    names = connection.scalars(
        text(
            "SELECT conname FROM pg_constraint WHERE contype = 'c'"
            " AND conrelid = 'ledger.execution_ledger'::regclass"
        )
    ).all()
    for name in names:
        connection.exec_driver_sql(f"ALTER TABLE ledger.execution_ledger DROP CONSTRAINT {name}")


@pytest.fixture(scope="module")
def chains(databases: Databases, target: Target) -> Iterator[Chains]:
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    stop_jobs(url)
    own = engine(url)
    with Ledger.connect(url) as ledger:
        ledger.tenancy.set_tier("pro", "1.5", effective_from=LONG_AGO)
        user = ledger.tenancy.upsert_user(tier="pro", external_id="acme")
        project, other = (
            ledger.tenancy.upsert_project(each, external_id=each) for each in ("one", "two")
        )
        for place in range(1, RUNS + 1):
            for of in (project, other):
                ledger.audit.record_execution(
                    execution(
                        run_id=f"{of}-{place}",
                        project_id=of,
                        user_id=user,
                        agent_id=f"agent-{place % 2}",
                        input={"amount": place},
                        output={"done": place},
                        status="failed" if place % 3 == 0 else "completed",
                        error_message="it broke" if place % 3 == 0 else None,
                    )
                )
        ledger.audit.erase_payload(f"{project}-{ERASED}", "asked for")
        yield Chains(engine=own, ledger=ledger, project=project, other=other)
    own.dispose()
    databases.drop(name)


def fault(found: Verification) -> Fault:
    """The fault, which there is."""
    assert not found.is_intact
    assert found.first_fault is not None
    return found.first_fault


def of_project(condition: str) -> str:
    return f"project_id = {{project}} AND {condition}"


def test_what_nobody_changed_is_intact(chains: Chains) -> None:
    found = chains.tampered(taken=chains.checkpoint(), also="SELECT")

    assert (found.is_intact, found.rows, found.erased, found.first_fault) == (True, RUNS, 1, None)


def test_what_a_superuser_prepares_for_changes_no_row(chains: Chains) -> None:
    assert chains.tampered().is_intact


@pytest.mark.parametrize("place", [1, 2, RUNS])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_changed_value_is_found_where_it_is(chains: Chains, column: str, place: int) -> None:
    found = chains.tampered(
        f"UPDATE ledger.execution_ledger SET {column} = {COLUMNS[column]}"
        f" WHERE {of_project(f'sequence = {place}')}"
    )

    assert (fault(found).kind, fault(found).sequence) == ("changed", place)
    assert found.rows == place - 1


@pytest.mark.parametrize("column", [name for name in PAYLOADS if name != "salt"])
def test_the_payload_that_was_changed_is_named(chains: Chains, column: str) -> None:
    found = chains.tampered(
        f"UPDATE ledger.execution_ledger SET {column} = {COLUMNS[column]}"
        f" WHERE {of_project('sequence = 3')}"
    )

    assert column in fault(found).detail
    assert fault(found).run_id == f"{chains.project}-3"


@pytest.mark.parametrize("place", [1, 5, RUNS - 1])
def test_a_row_that_was_removed_is_missed(chains: Chains, place: int) -> None:
    found = chains.tampered(
        f"DELETE FROM ledger.execution_ledger WHERE {of_project(f'sequence = {place}')}"
    )

    assert (fault(found).kind, fault(found).sequence) == ("missing", place)


@pytest.mark.parametrize("place", [1, 5, RUNS])
def test_a_tail_that_was_cut_off_is_missed(chains: Chains, place: int) -> None:
    found = chains.tampered(
        f"DELETE FROM ledger.execution_ledger WHERE {of_project(f'sequence >= {place}')}"
    )

    assert (fault(found).kind, fault(found).sequence) == ("truncated", place)


SET_HEAD_BACK = """UPDATE ledger.execution_heads head SET sequence = last.sequence, hash = last.hash
FROM (SELECT * FROM ledger.execution_ledger WHERE project_id = {project}
  ORDER BY sequence DESC LIMIT 1) AS last
WHERE head.project_id = {project}"""


def test_a_tail_that_was_cut_off_with_its_head_is_missed_by_the_sums(chains: Chains) -> None:
    found = chains.tampered(
        f"DELETE FROM ledger.execution_ledger WHERE {of_project('sequence > 5')}", SET_HEAD_BACK
    )

    assert fault(found).kind == "missing"
    assert "the sums of" in fault(found).detail
    assert fault(found).detail.endswith("which its rows do")


def test_a_tail_that_was_cut_off_with_head_and_sums_is_missed_by_a_checkpoint(
    chains: Chains,
) -> None:
    cut = (
        f"DELETE FROM ledger.execution_ledger WHERE {of_project('sequence > 5')}",
        SET_HEAD_BACK,
        "DELETE FROM ledger.execution_deltas",
        """INSERT INTO ledger.execution_deltas
        SELECT date_trunc('hour', created_at), project_id, agent_id, status, 1,
          total_cost_cents, total_cost_cents, total_cost_cents, duration_ms, '{9}'
        FROM ledger.execution_ledger""",
    )
    assert chains.tampered(*cut).is_intact, "nothing in the database tells it"

    found = chains.tampered(*cut, taken=chains.checkpoint())
    assert (fault(found).kind, fault(found).sequence) == ("truncated", 6)


def test_all_of_a_project_that_is_gone_is_missed_by_a_checkpoint(chains: Chains) -> None:
    gone = (
        f"DELETE FROM ledger.{table} WHERE project_id = {{project}}"
        for table in ("execution_ledger", "execution_heads", "execution_deltas", "execution_days")
    )

    found = chains.tampered(*gone, taken=chains.checkpoint())
    assert (fault(found).kind, fault(found).sequence) == ("truncated", 1)


@pytest.mark.parametrize("first, second", [(1, 2), (3, 7), (1, RUNS)])
def test_rows_that_changed_places_are_found(chains: Chains, first: int, second: int) -> None:
    found = chains.tampered(
        f"UPDATE ledger.execution_ledger SET sequence = {first} + {second} - sequence"
        f" WHERE {of_project(f'sequence IN ({first}, {second})')}"
    )

    assert (fault(found).kind, fault(found).sequence) == ("reordered", first)
    assert f"row {second}" in fault(found).detail


@pytest.mark.parametrize("to", [-(2**63), 0, 1, 2, 4, 5, RUNS, RUNS + 1, 100])
@pytest.mark.parametrize("place", [3, RUNS])
def test_a_row_that_was_moved_is_found(chains: Chains, place: int, to: int) -> None:
    if to == place:
        to -= 1
    found = chains.tampered(
        f"UPDATE ledger.execution_ledger SET sequence = {to}"
        f" WHERE {of_project(f'sequence = {place}')}"
    )

    assert (fault(found).kind, fault(found).sequence) == ("reordered", to)
    assert fault(found).run_id == f"{chains.project}-{place}"
    assert f"row {place}" in fault(found).detail


def test_a_row_that_lost_its_place_is_found(chains: Chains) -> None:
    found = chains.tampered(
        "ALTER TABLE ledger.execution_ledger ALTER sequence DROP NOT NULL",
        f"UPDATE ledger.execution_ledger SET sequence = NULL WHERE {of_project('sequence = 3')}",
    )

    assert (fault(found).kind, fault(found).sequence) == ("changed", None)
    assert fault(found).run_id == f"{chains.project}-3"


FORGED = """INSERT INTO ledger.execution_ledger (id, run_id, project_id, user_id, agent_id, intent,
  input, output, error_message, parent_run_id, cost_json, execution_trace_json, status,
  total_cost_cents, duration_ms, created_at,
  recorded_at, sequence, hash_version, previous_hash, hash, salt, payload_digests)
SELECT id, 'forged', project_id, user_id, agent_id, intent, input, output,
  error_message, parent_run_id, cost_json,
  execution_trace_json, status, total_cost_cents, duration_ms, created_at, recorded_at,
  {place}, hash_version, previous_hash, {hash}, salt, payload_digests
FROM ledger.execution_ledger WHERE project_id = {project} AND run_id LIKE '%-{before}'"""
REHASHED = """UPDATE ledger.execution_ledger stored SET hash = sha256(previous_hash || sha256(
  ledger.execution_encoding(project_id, sequence, id, user_id, created_at, recorded_at,
    duration_ms, run_id, parent_run_id, agent_id, status, total_cost_cents, payload_digests)))
WHERE project_id = {project} AND """


def test_a_row_that_was_put_between_others_is_found(chains: Chains) -> None:
    found = chains.tampered(
        f"UPDATE ledger.execution_ledger SET sequence = sequence + 1"
        f" WHERE {of_project('sequence >= 3')}",
        FORGED.replace("{place}", "3").replace("{hash}", "hash").replace("{before}", "3"),
        f"{REHASHED} run_id = 'forged'",
    )

    assert (fault(found).kind, fault(found).sequence) == ("inserted", 3)
    assert fault(found).run_id == "forged"


@pytest.mark.parametrize("place", [-5, 0, 3, RUNS])
def test_a_row_in_a_place_that_is_taken_or_is_none_is_found(chains: Chains, place: int) -> None:
    found = chains.tampered(
        FORGED.replace("{place}", str(place)).replace("{hash}", "hash").replace("{before}", "2")
    )

    assert (fault(found).kind, fault(found).sequence) == ("inserted", place)
    assert fault(found).run_id == "forged"


@pytest.mark.parametrize("rows", [1, 2, 3, RUNS])
def test_rows_that_are_read_in_several_shares_are_verified_alike(
    chains: Chains, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr("ledger.maintenance.audit.verify.CHAIN", chain_in_shares(rows))
    told: list[int] = []
    with chains.engine.connect() as connection:
        whole = verify(connection, chains.project, None, told.append)
    assert (whole.is_intact, whole.rows, whole.erased) == (True, RUNS, 1)
    assert told == [*range(rows, RUNS, rows), RUNS]
    for place in range(1, RUNS + 1):
        found = chains.tampered(
            "UPDATE ledger.execution_ledger SET agent_id = 'x'"
            f" WHERE project_id = {{project}} AND sequence = {place}"
        )
        assert (found.rows, fault(found).kind, fault(found).sequence) == (
            place - 1,
            "changed",
            place,
        )


def test_a_row_after_the_head_is_found(chains: Chains) -> None:
    found = chains.tampered(
        FORGED.replace("{hash}", "hash")
        .replace("{before}", str(RUNS))
        .replace("  {place}, hash_version, previous_hash,", "  {place}, hash_version, hash,")
        .replace("{place}", str(RUNS + 1)),
        f"{REHASHED} run_id = 'forged'",
    )

    assert (fault(found).kind, fault(found).sequence) == ("inserted", RUNS + 1)
    assert found.rows == RUNS


@pytest.mark.parametrize("place", [2, RUNS])
def test_a_row_that_was_replaced_by_one_that_is_right_in_itself_is_found(
    chains: Chains, place: int
) -> None:
    found = chains.tampered(
        f"UPDATE ledger.execution_ledger SET agent_id = 'another'"
        f" WHERE {of_project(f'sequence = {place}')}",
        f"{REHASHED} sequence = {place}",
    )

    assert (fault(found).kind, fault(found).sequence) == ("changed", place)


def test_a_history_that_was_written_anew_is_found_by_a_checkpoint(chains: Chains) -> None:
    anew = (
        (
            f"UPDATE ledger.execution_ledger SET run_id = 'another'"
            f" WHERE {of_project('sequence = 7')}"
        ),
        f"{REHASHED} sequence = 7",
        *(
            f"UPDATE ledger.execution_ledger stored SET previous_hash = before.hash"
            f" FROM ledger.execution_ledger before WHERE before.project_id = stored.project_id"
            f" AND before.sequence = {place - 1} AND stored.project_id = {{project}}"
            f" AND stored.sequence = {place}; {REHASHED} sequence = {place}"
            for place in (8, 9)
        ),
        SET_HEAD_BACK,
    )
    assert chains.tampered(*anew).is_intact, "nothing in the database tells it"

    found = chains.tampered(*anew, taken=chains.checkpoint())
    assert (fault(found).kind, fault(found).sequence) == ("changed", RUNS)


@pytest.mark.parametrize(
    "tampering, said",
    [
        (f"DELETE FROM ledger.execution_erasures WHERE {of_project('true')}", "no record of it"),
        (
            (
                f"UPDATE ledger.execution_ledger SET input = '{{\"a\": 1}}'"
                f" WHERE {of_project(f'sequence = {ERASED}')}"
            ),
            "its payloads are not what erasing leaves",
        ),
        (
            (
                "UPDATE ledger.execution_ledger"
                " SET cost_json = jsonb_set(cost_json, '{total}', '1')"
                f" WHERE {of_project(f'sequence = {ERASED}')}"
            ),
            "total_cost_cents or duration_ms",
        ),
        (
            (
                "UPDATE ledger.execution_ledger SET output = NULL"
                f" WHERE {of_project(f'sequence = {ERASED}')}"
            ),
            "its payloads are not what erasing leaves",
        ),
        (
            (
                "UPDATE ledger.execution_ledger SET error_message = '[erased]'"
                f" WHERE {of_project(f'sequence = {ERASED}')}"
            ),
            "its payloads are not what erasing leaves",
        ),
        (
            (
                f"UPDATE ledger.execution_ledger SET cost_json = '\"no object\"'"
                f" WHERE {of_project(f'sequence = {ERASED}')}"
            ),
            "",
        ),
    ],
)
def test_an_erasure_covers_nothing_else(chains: Chains, tampering: str, said: str) -> None:
    found = chains.tampered(tampering)

    assert (fault(found).kind, fault(found).sequence) == ("changed", ERASED)
    assert said in fault(found).detail


def test_a_record_of_an_erasure_that_was_not_made_is_found(chains: Chains) -> None:
    found = chains.tampered(f"{FORGED_ERASURE} {of_project('sequence = 6')}")

    assert (fault(found).kind, fault(found).sequence) == ("changed", 6)


def test_a_head_that_was_removed_is_missed(chains: Chains) -> None:
    found = chains.tampered("DELETE FROM ledger.execution_heads WHERE project_id = {project}")

    assert "has no head" in fault(found).detail


def test_another_projects_rows_do_not_matter(chains: Chains) -> None:
    found = chains.tampered(
        f"UPDATE ledger.execution_ledger SET agent_id = 'x' WHERE project_id = '{chains.other}'"
    )

    assert found.is_intact


IN_SUMS = {
    "agent": "{0} SET agent_id = agent_id || ' and others'",
    "status": "{0} SET status = upper(status)",
    "day": "{0} SET {1} = {1} - interval '1 day'",
}
OF_MEASURES = {
    "count": "{0} SET executions = executions + 1",
    "total": "{0} SET total_cost_cents = total_cost_cents + 0.000000000001",
    "least": "{0} SET least_cost_cents = 0",
    "greatest": "{0} SET greatest_cost_cents = greatest_cost_cents + 1",
    "duration": "{0} SET duration_ms = duration_ms - 1",
}

OF_OTHERS = (
    *(
        f"UPDATE ledger.execution_heads SET {name} = {other}"
        for name, other in {
            "sequence": "sequence - 1",
            "hash": "sha256(hash)",
            "erasures": "erasures + 1",
            "erasures_hash": "sha256(erasures_hash)",
            "project_id": "gen_random_uuid()",
        }.items()
    ),
    *(
        f"UPDATE ledger.execution_erasures SET {name} = {other}"
        for name, other in {**OF_ERASURE, "sequence": "sequence + 1"}.items()
    ),
    *(each.format("UPDATE ledger.execution_deltas", "hour") for each in IN_SUMS.values()),
    *(each.format("UPDATE ledger.execution_deltas") for each in OF_MEASURES.values()),
    *(f"DELETE FROM ledger.execution_{table}" for table in ("heads", "erasures", "deltas")),
)
"""What may be done to what stands beside the rows."""

TAMPERINGS = st.one_of(
    st.sampled_from(OF_OTHERS).map(lambda done: f"{done} WHERE project_id = {{project}}"),
    st.tuples(st.sampled_from(sorted(COLUMNS)), st.integers(1, RUNS)).map(
        lambda drawn: (
            f"UPDATE ledger.execution_ledger SET {drawn[0]} = {COLUMNS[drawn[0]]}"
            f" WHERE {of_project(f'sequence = {drawn[1]}')}"
        )
    ),
    st.integers(1, RUNS).map(
        lambda place: (
            f"DELETE FROM ledger.execution_ledger WHERE {of_project(f'sequence = {place}')}"
        )
    ),
    st.tuples(st.integers(1, RUNS), st.integers(-3, RUNS + 3))
    .filter(lambda places: places[0] != places[1])
    .map(
        lambda places: (
            f"UPDATE ledger.execution_ledger SET sequence = {places[1]}"
            f" WHERE {of_project(f'sequence = {places[0]}')}"
        )
    ),
    st.integers(-3, RUNS + 3).map(
        lambda place: (
            FORGED.replace("{place}", str(place)).replace("{hash}", "hash").replace("{before}", "2")
        )
    ),
    st.permutations(range(1, RUNS + 1))
    .filter(lambda order: order != sorted(order))
    .map(
        lambda order: (
            "UPDATE ledger.execution_ledger SET sequence = coalesce((ARRAY"
            f"{list(order)})[sequence], sequence) WHERE project_id = {{project}}"
        )
    ),
)


@settings(
    max_examples=90, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tamperings=st.lists(TAMPERINGS, min_size=1, max_size=3))
def test_random_tampering_is_always_found(chains: Chains, tamperings: list[str]) -> None:
    rows = " UNION ALL ".join(
        f"SELECT t::text FROM ledger.execution_{table} t WHERE project_id = '{chains.project}'"
        for table in ("ledger", "heads", "erasures", "deltas")
    )
    rows = f"SELECT md5(string_agg(row, ',' ORDER BY row)) FROM ({rows}) AS of_all (row)"
    with chains.engine.connect() as connection:
        _drop_checks(connection)
        connection.exec_driver_sql(UNGUARDED)
        before = connection.exec_driver_sql(rows).scalar()
        for statement in tamperings:
            connection.exec_driver_sql(
                statement.replace("{project}", f"'{chains.project}'").replace("%", "%%")
            )
        is_same = connection.exec_driver_sql(rows).scalar() == before
        found = verify(connection, chains.project)
        connection.rollback()

    assert found.is_intact == is_same


def test_verification_is_called_and_awaited(database_url: str, kind: Kind) -> None:
    with ledger_at(database_url, kind) as ledger:
        ledger.tenancy.set_tier("pro", "1.5", effective_from=LONG_AGO)
        user = ledger.tenancy.upsert_user(tier="pro", external_id="acme")
        project = ledger.tenancy.upsert_project("one", external_id="one")
        ledger.audit.record_executions(
            execution(run_id=f"r{place}", project_id=project, user_id=user) for place in range(5)
        )
        seen: list[int] = []

        found = ledger.audit.verify(project, on_progress=seen.append)
        everything = ledger.audit.verify_all(checkpoint=ledger.audit.checkpoint())

        assert (found.is_intact, found.rows, seen) == (True, 5, [5])
        assert (everything.is_intact, everything.unguarded, everything.not_compared) == (
            True,
            (),
            (),
        )
        assert [each.project_id for each in everything.projects] == [project]
        assert ledger.audit.verify(str(project)).is_intact


@pytest.mark.parametrize("kind_of_role", ["service", "auditor"])
def test_who_is_not_the_owner_verifies_rows_and_is_told_what_he_cannot_compare(
    database_url: str, kind_of_role: str
) -> None:
    with audited(database_url, execution("first")), roles_of(database_url) as roles:
        role = roles.granted(kind_of_role)
        with Ledger.connect(role.url) as own:
            found = own.audit.verify_all()

    assert (found.is_intact, found.unguarded) == (True, ())
    assert found.not_compared


@pytest.mark.parametrize(
    "done",
    [
        "ALTER FUNCTION ledger.{routine} OWNER TO {role}",
        "ALTER SCHEMA ledger OWNER TO {role}",
    ],
)
@pytest.mark.parametrize("routine", ["guard_execution", "append_executions", "sees_all"])
def test_guards_in_other_hands_are_told(database_url: str, done: str, routine: str) -> None:
    with audited(database_url) as ledger, roles_of(database_url) as roles:
        roles.own(done.format(routine=routine, role=roles.create().name))
        try:
            found = ledger.audit.verify_all()
        finally:
            roles.own("ALTER SCHEMA ledger OWNER TO CURRENT_USER")
            roles.own(f"ALTER FUNCTION ledger.{routine} OWNER TO CURRENT_USER")

    assert not found.is_intact
    assert "is owned by" in found.unguarded[0]


def test_what_cannot_be_verified_is_refused_by_name(chains: Chains) -> None:
    stranger = uuid4()
    with pytest.raises(UnknownReference, match=str(stranger)):
        chains.ledger.audit.verify(stranger)
    with pytest.raises(InvalidArgument, match="project_id 'one' is not a UUID"):
        chains.ledger.audit.verify("one")
    taken: Any = chains.checkpoint().to_json()
    with pytest.raises(InvalidArgument, match=r"Checkpoint\.from_json"):
        chains.ledger.audit.verify(chains.project, checkpoint=taken)
    with pytest.raises(InvalidArgument, match=r"Checkpoint\.from_json"):
        chains.ledger.audit.verify_all(checkpoint=taken)
    with pytest.raises(InvalidArgument, match=r"Checkpoint\.from_json"):
        chains.ledger.audit.inclusion_proof("a run", taken)
    with pytest.raises(InvalidArgument, match="checkpoint None"):
        chains.ledger.audit.inclusion_proof("a run", cast("Any", None))
    with pytest.raises(InvalidArgument, match="run_id"):
        chains.ledger.audit.inclusion_proof("\0", chains.checkpoint())


def test_a_project_without_runs_is_intact(database_url: str) -> None:
    with audited(database_url, execution("first")) as ledger:
        sql(
            database_url,
            f"SELECT ledger.append_executions(ARRAY['{OTHER_PROJECT}']::uuid[], '[]')",
        )

        assert ledger.audit.verify(OTHER_PROJECT).is_intact
        assert ledger.audit.verify_all().is_intact


def test_a_head_that_says_nothing_is_in_no_checkpoint(chains: Chains) -> None:
    for said in ("sequence = -1", "erasures = -1"):
        with chains.engine.connect() as connection:
            connection.exec_driver_sql(
                "ALTER TABLE ledger.execution_heads DISABLE TRIGGER ALL;"
                " ALTER TABLE ledger.execution_heads DROP CONSTRAINT execution_heads_position_check"
            )
            connection.exec_driver_sql(
                f"UPDATE ledger.execution_heads SET {said} WHERE project_id = '{chains.project}'"
            )
            with pytest.raises(AppendOnlyViolation, match=f"head of project {chains.project}"):
                checkpoint(connection, None)
            connection.rollback()


def test_a_project_without_runs_that_a_checkpoint_knows_is_missed_where_it_is_gone(
    database_url: str,
) -> None:
    with audited(database_url) as ledger, superuser(database_url) as connection:
        connection.execute(
            "INSERT INTO ledger.execution_heads (project_id) VALUES (%s)", [OTHER_PROJECT]
        )
        taken = ledger.audit.checkpoint()
        connection.execute(
            """SET session_replication_role = replica;
            ALTER TABLE ledger.projects DISABLE TRIGGER ALL;
            ALTER TABLE ledger.execution_heads DISABLE TRIGGER ALL;
            DELETE FROM ledger.execution_heads; DELETE FROM ledger.projects"""
        )
        (found,) = ledger.audit.verify_all(checkpoint=taken).projects

    assert found.project_id == OTHER_PROJECT
    assert "is gone from ledger.projects" in fault(found).detail


METHODS: dict[str, Callable[[AsyncLedger, Checkpoint], Awaitable[object]]] = {
    "verify": lambda ledger, _: ledger.audit.verify(PROJECT),
    "verify_all": lambda ledger, _: ledger.audit.verify_all(),
    "checkpoint": lambda ledger, _: ledger.audit.checkpoint(),
    "inclusion_proof": lambda ledger, taken: ledger.audit.inclusion_proof("first", taken),
}


@pytest.mark.parametrize("is_bound", [False, True], ids=["own", "bound"])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
async def test_a_cancelled_task_is_cancelled(
    database_url: str,
    method: Callable[[AsyncLedger, Checkpoint], Awaitable[object]],
    *,
    is_bound: bool,
) -> None:
    with audited(database_url, execution("first")) as ledger:
        taken = ledger.audit.checkpoint()
    tables = "ledger.execution_ledger, ledger.execution_heads"
    own = async_engine(database_url)
    async with AsyncLedger.connect(database_url) as connected, own.connect() as connection:
        asked = AsyncLedger.bound(connection) if is_bound else connected
        with psycopg.connect(libpq(make_url(database_url))) as other:
            other.execute(f"LOCK TABLE {tables}".encode())
            task = asyncio.ensure_future(method(asked, taken))
            while not await asyncio.to_thread(is_waiting_for_a_lock, database_url):
                assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await method(connected, taken)
    await own.dispose()


@pytest.mark.parametrize("parent", ["projects", "users"])
def test_a_parent_that_was_removed_is_missed(database_url: str, parent: str) -> None:
    with audited(database_url, execution("first")) as ledger, superuser(database_url) as connection:
        connection.execute(
            f"""SET session_replication_role = replica;
            ALTER TABLE ledger.{parent} DISABLE TRIGGER ALL;
            DELETE FROM ledger.{parent}""".encode()
        )
        (found,) = ledger.audit.verify_all().projects

    assert fault(found).kind == "missing"
    assert f"is gone from ledger.{parent}" in fault(found).detail
    assert fault(found).run_id == (None if parent == "projects" else "first")


@pytest.mark.parametrize("parent", ["projects", "users"])
def test_a_parent_that_an_heir_stands_in_for_is_missed(database_url: str, parent: str) -> None:
    with audited(database_url, execution("first")) as ledger:
        sql(
            database_url,
            f"""CREATE TABLE public.heir () INHERITS (ledger.{parent});
            INSERT INTO public.heir SELECT * FROM ONLY ledger.{parent};
            ALTER TABLE ledger.{parent} DISABLE TRIGGER ALL;
            DELETE FROM ONLY ledger.{parent}""",
        )
        assert f"is gone from ledger.{parent}" in fault(ledger.audit.verify(PROJECT)).detail


def test_a_project_of_which_no_row_and_no_head_is_left_is_missed(database_url: str) -> None:
    with audited(database_url, execution("first")) as ledger, superuser(database_url) as connection:
        connection.execute(
            """SET session_replication_role = replica;
            ALTER TABLE ledger.execution_ledger DISABLE TRIGGER ALL;
            ALTER TABLE ledger.execution_heads DISABLE TRIGGER ALL;
            DELETE FROM ledger.execution_ledger;
            DELETE FROM ledger.execution_heads"""
        )
        (found,) = ledger.audit.verify_all().projects

        assert fault(found).kind == "missing"


@pytest.mark.parametrize(
    "change",
    [
        *(each.format("UPDATE ledger.execution_deltas", "hour") for each in IN_SUMS.values()),
        *(each.format("UPDATE ledger.execution_deltas") for each in OF_MEASURES.values()),
        "UPDATE ledger.execution_deltas SET cost_bins[1] = 7",
        "DELETE FROM ledger.execution_deltas",
    ],
)
def test_sums_that_were_changed_are_found(chains: Chains, change: str) -> None:
    found = chains.tampered(f"{change} WHERE project_id = {{project}}")
    assert "the sums of" in fault(found).detail


@pytest.mark.parametrize(
    "change",
    [
        *(each.format("UPDATE ledger.execution_days", "bucket") for each in IN_SUMS.values()),
        *(each.format("UPDATE ledger.execution_days") for each in OF_MEASURES.values()),
        *(each.format("UPDATE ledger.execution_costs", "bucket") for each in IN_SUMS.values()),
        "UPDATE ledger.execution_costs SET bin = 7",
        "DELETE FROM ledger.execution_costs",
    ],
)
def test_folded_sums_that_were_changed_are_found(chains: Chains, change: str) -> None:
    folded = "SELECT ledger.fold_execution_deltas()"
    found = chains.tampered(folded, f"{change} WHERE project_id = {{project}}", also="")
    assert "the sums of" in fault(found).detail
    assert chains.tampered(folded, also="").is_intact


@pytest.mark.parametrize(
    "sums, names, values",
    [
        ("days", ", ".join(MEASURES), ", ".join("1" for _ in MEASURES)),
        ("costs", "bin, executions", "-32768, 1000000"),
    ],
    ids=["days", "costs"],
)
@pytest.mark.parametrize("whose", ["gen_random_uuid()", f"'{PROJECT}'"], ids=["nobody's", "its"])
def test_sums_of_runs_that_never_were_are_found(
    database_url: str, sums: str, names: str, values: str, whose: str
) -> None:
    with audited(database_url, execution("first"), execution("x", project_id=OTHER_PROJECT)) as (
        ledger
    ):
        sql(
            database_url,
            f"INSERT INTO ledger.execution_{sums} (bucket, project_id, agent_id, status, {names})"
            f" VALUES ('2026-10-01Z', {whose}, 'backend', 'completed', {values})",
        )
        found = ledger.audit.verify_all()

    assert not found.is_intact
    (faulty,) = (each for each in found.projects if not each.is_intact)
    assert "the sums of 2026-10-01 UTC, agent 'backend'" in fault(faulty).detail


def test_the_auditor_of_a_project_is_told_of_its_sums(database_url: str) -> None:
    with audited(database_url, execution("first")), roles_of(database_url) as roles:
        role = roles.granted("auditor", projects=[PROJECT])
        with Ledger.connect(role.url) as ledger:
            assert ledger.audit.verify(PROJECT).is_intact
            sql(database_url, "UPDATE ledger.execution_deltas SET executions = executions + 1")
            assert "the sums of" in fault(ledger.audit.verify(PROJECT)).detail


def test_an_erasure_of_a_row_that_is_not_there_is_found(chains: Chains) -> None:
    found = chains.tampered(
        """SET session_replication_role = replica;
        INSERT INTO ledger.execution_erasures
        VALUES ({project}, 10, 'a reason', now(), 'me', 2, sha256(''))"""
    )
    assert (fault(found).kind, fault(found).sequence) == ("missing", 10)


@pytest.mark.parametrize("column", ["hash", "previous_hash", "payload_digests", "id", "user_id"])
def test_a_value_that_was_taken_away_is_found_where_it_is(chains: Chains, column: str) -> None:
    found = chains.tampered(
        f"ALTER TABLE ledger.execution_ledger ALTER COLUMN {column} DROP NOT NULL",
        f"UPDATE ledger.execution_ledger SET {column} = NULL WHERE {of_project('sequence = 3')}",
    )
    assert fault(found).sequence == 3


@pytest.mark.parametrize("driver", ["called", "awaited"])
def test_verifying_calls_nobodys_functions_but_postgresqls(database_url: str, driver: Kind) -> None:
    sql(
        database_url,
        """CREATE FUNCTION public.step(bytea[], bytea) RETURNS bytea[] LANGUAGE plpgsql
        AS $$ BEGIN RAISE 'sprung'; END $$""",
    )
    sql(
        database_url,
        "CREATE AGGREGATE public.array_agg(bytea)"
        " (SFUNC = public.step, STYPE = bytea[], INITCOND = '{}')",
    )
    sql(
        database_url,
        """CREATE FUNCTION public.to_jsonb(numeric) RETURNS jsonb LANGUAGE plpgsql
        AS $$ BEGIN RAISE 'sprung'; END $$""",
    )
    with audited(database_url, execution("first"), kind=driver) as ledger:
        taken = ledger.audit.checkpoint()

        assert ledger.audit.verify(PROJECT, checkpoint=taken).is_intact
        assert ledger.audit.verify_all().is_intact
        assert ledger.audit.inclusion_proof("first", taken).proves(taken)
