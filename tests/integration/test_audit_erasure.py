"""Payloads are erased once, for a reason that is kept, and nothing else changes with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest

from ledger import Ledger
from ledger.engine import engine
from ledger.errors import InvalidRecord, PermissionMissing, UnknownReference
from ledger.records.audit import Erasure
from tests.audits import (
    ALICE,
    BESIDE,
    BOB,
    ERASED,
    FORGED_ERASURE,
    OTHER_PROJECT,
    PROJECT,
    VARIATIONS,
    audited,
    execution,
    own_by,
    run_of,
    sqlstate,
    stored,
)
from tests.databases import Databases, Target
from tests.ledgers import at_once, ledger_at
from tests.roles import Roles, roles_of
from tests.writers import Kind, sql, stop_jobs, superuser

REFUSED = "LG006"


@pytest.fixture
def roles(database_url: str) -> Iterator[Roles]:
    with roles_of(database_url) as roles:
        yield roles


# --- what an erasure does ---


def test_an_erasure_takes_the_payloads_and_leaves_the_rest(roles: Roles, kind: Kind) -> None:
    service = roles.granted("service")
    with audited(roles.url, execution()):
        before = run_of(roles.url, "run")
        with ledger_at(service.url, kind) as ledger:
            erasure = ledger.audit.erase_payload("run", "a request")

    after = run_of(roles.url, "run")
    assert after == {
        **before,
        "salt": None,
        "intent": "[erased]",
        "input": {},
        "output": {},
        "cost_json": {"total": 1.5, "breakdown": {}},
        "execution_trace_json": {"duration_ms": 900, "steps": []},
        "error_message": "[erased]",
    }
    assert erasures(roles.url) == [(PROJECT, 1, "a request", erasure.erased_at, service.name)]
    assert erasure == Erasure(
        run_id="run",
        project_id=PROJECT,
        sequence=1,
        reason="a request",
        erased_at=erasure.erased_at,
        erased_by=service.name,
    )


def test_what_was_not_there_is_not_there_once_it_is_erased(database_url: str) -> None:
    with audited(database_url, execution(output=None, error_message=None)) as ledger:
        ledger.audit.erase_payload("run", "a request")
    run = run_of(database_url, "run")
    assert (run["intent"], run["output"], run["error_message"]) == ("[erased]", None, None)


def test_a_total_keeps_the_digits_it_was_sent_with(database_url: str) -> None:
    with audited(database_url, execution(cost={"total": "0.100"})) as ledger:
        text = "SELECT cost_json ->> 'total', total_cost_cents FROM ledger.execution_ledger"
        before = sql(database_url, text)
        ledger.audit.erase_payload("run", "a request")
        assert sql(database_url, text) == before


def test_an_erasure_that_is_repeated_keeps_the_reason_given_first(database_url: str) -> None:
    with audited(database_url, execution()) as ledger:
        first = ledger.audit.erase_payload("run", "a request")
        again = ledger.audit.erase_payload("run", "another reason")
    assert again == first
    assert [reason for _, _, reason, _, _ in erasures(database_url)] == ["a request"]


def test_erasers_at_once_write_it_down_once(roles: Roles) -> None:
    service = roles.granted("service")
    found: list[Erasure] = []

    def erase(reason: str) -> None:
        with Ledger.connect(service.url) as ledger:
            found.append(ledger.audit.erase_payload("run", reason))

    with audited(roles.url, execution()):
        at_once(*(lambda reason=f"reason {n}": erase(reason) for n in range(6)))
    assert len(erasures(roles.url)) == 1
    assert found == found[:1] * 6
    assert run_of(roles.url, "run")["salt"] is None


@pytest.mark.parametrize(
    "run_id, reason, error",
    [
        ("nobody's", "a request", UnknownReference),
        ("run", "", InvalidRecord),
        ("run", "x" * 1_001, InvalidRecord),
        ("run", "a\0b", InvalidRecord),
        ("run", None, InvalidRecord),
        ("", "a request", InvalidRecord),
    ],
    ids=["unknown run", "blank", "too long", "NUL", "none", "blank run"],
)
def test_an_erasure_that_makes_no_sense_erases_nothing(
    database_url: str, run_id: str, reason: Any, error: type[InvalidRecord]
) -> None:
    with audited(database_url, execution()) as ledger:
        with pytest.raises(error):
            ledger.audit.erase_payload(run_id, reason)
        assert erasures(database_url) == []
        assert ledger.audit.erase_payload("run", "x" * 1_000).reason == "x" * 1_000


@pytest.mark.parametrize("kind", ["reader", "writer", "auditor", "auditor of the project", None])
def test_only_a_service_may_erase(roles: Roles, kind: str | None) -> None:
    with audited(roles.url, execution()):
        if kind == "auditor of the project":
            role = roles.granted("auditor", projects=[PROJECT])
        elif kind is None:
            role = roles.create()
        else:
            role = roles.granted(kind, [ALICE] if kind == "reader" else [])
        with Ledger.connect(role.url) as ledger, pytest.raises(PermissionMissing):
            ledger.audit.erase_payload("run", "a request")
    assert erasures(roles.url) == []
    assert run_of(roles.url, "run")["intent"] == "Find out why."


@pytest.mark.parametrize(
    "narrowed, reaches", [("", True), (str(ALICE), True), (str(BOB), False)], ids=str
)
def test_a_narrowed_service_does_not_reach_another_users_run(
    roles: Roles, narrowed: str, *, reaches: bool
) -> None:
    service = engine(roles.granted("service").url)
    with audited(roles.url, execution()), service.begin() as connection:
        connection.exec_driver_sql("SELECT set_config('ledger.user_id', %s, true)", (narrowed,))
        audit = Ledger.bound(connection).audit
        if reaches:
            assert audit.erase_payload("run", "a request").reason == "a request"
        else:
            with pytest.raises(UnknownReference):
                audit.erase_payload("run", "a request")
    service.dispose()
    assert len(erasures(roles.url)) == reaches


def test_a_narrowed_service_is_not_told_of_another_users_erasure(roles: Roles) -> None:
    with audited(roles.url, execution()) as ledger:
        ledger.audit.erase_payload("run", "a request")
    service = roles.granted("service")
    ask = "SELECT reason FROM ledger.erase_execution('run', 'another')"
    assert service.sql(ask, ledger__user_id=str(BOB)) == []
    assert service.sql(ask) == [("a request",)]


def test_a_narrowed_service_does_not_carry_out_another_users_erasure(roles: Roles) -> None:
    with audited(roles.url, execution()), superuser(roles.url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(f"{FORGED_ERASURE} run_id = 'run'".encode())
    service = roles.granted("service")
    ask = "SELECT reason FROM ledger.erase_execution('run', 'another')"
    assert service.sql(ask, ledger__user_id=str(BOB)) == []
    assert run_of(roles.url, "run")["intent"] == "Find out why."
    assert len(service.sql(ask, ledger__user_id=str(ALICE))) == 1
    assert run_of(roles.url, "run")["intent"] == "[erased]"


def test_a_service_records_and_erases_where_the_owner_is_no_superuser(roles: Roles) -> None:
    service, owner = roles.granted("service"), roles.create()
    with audited(roles.url):
        own_by(roles, owner.name)
        with Ledger.connect(service.url) as ledger:
            ledger.audit.record_execution(execution())
            assert ledger.audit.erase_payload("run", "a request").erased_by == service.name
    roles.own(f"REASSIGN OWNED BY {owner.name} TO CURRENT_USER")
    assert run_of(roles.url, "run")["salt"] is None


def erasures(url: str) -> list[tuple[UUID, int, str, Any, str]]:
    """What is written down."""
    return sql(
        url,
        "SELECT project_id, sequence, reason, erased_at, erased_by FROM ledger.execution_erasures",
    )


# --- what makes use of an erasure to change something else ---

REPLICA = "SET LOCAL session_replication_role = replica"
ORIGIN = "SET LOCAL session_replication_role = origin"
WRITTEN = f"{FORGED_ERASURE} run_id = 'whole'"
DISABLED = (
    "ALTER TABLE ledger.execution_erasures DISABLE TRIGGER execution_erasures_are_carried_out"
)
WHO: dict[str, tuple[str, ...]] = {"superuser": (), "superuser, replica": (REPLICA,), "owner": ()}
"""Who tries, and what comes first."""
NOT_CARRIED_OUT: dict[str, tuple[str, ...]] = {
    "superuser, replica": (REPLICA, WRITTEN),
    "superuser, back from replica": (REPLICA, WRITTEN, ORIGIN),
    "superuser, trigger disabled": (DISABLED, WRITTEN),
    "owner, trigger disabled": (DISABLED, WRITTEN),
}
"""The same, where an erasure was written down and is not carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """A run that is erased and a whole one, which nobody can change."""

    connections: dict[str, psycopg.Connection[Any]]
    restored: dict[str, str]
    """What was in the run that is erased, as SQL."""

    def by(self, who: str) -> psycopg.Connection[Any]:
        return self.connections[who.partition(",")[0]]

    def tried(self, who: str, *statements: str) -> str | None:
        """How it is refused, if it is; and nothing is other than before."""
        before = stored(self.connections["superuser"])
        code = sqlstate(self.by(who), *statements)
        assert stored(self.connections["superuser"]) == before
        return code


@pytest.fixture(scope="module")
def erased(databases: Databases, target: Target) -> Iterator[Erased]:
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    stop_jobs(url)
    runs = [execution("erased"), execution("whole")]
    with roles_of(url) as roles, audited(url, *runs) as ledger:
        owner = roles.create()
        own_by(roles, owner.name)
        [texts] = roles.own(
            f"SELECT {', '.join(f'quote_nullable({each}::text)' for each in ERASED)}"
            " FROM ledger.execution_ledger WHERE run_id = 'erased'"
        )
        ledger.audit.erase_payload("erased", "a request")
        with superuser(url) as mighty, owner.connect() as owning:
            yield Erased(
                connections={"superuser": mighty, "owner": owning},
                restored=dict(zip(ERASED, texts, strict=True)),
            )
        roles.own(f"REASSIGN OWNED BY {owner.name} TO CURRENT_USER")
    databases.drop(name)


def change(columns: dict[str, str], run_id: str) -> str:
    changed = ", ".join(f"{name} = {value}" for name, value in columns.items())
    return f"UPDATE ledger.execution_ledger SET {changed} WHERE run_id = '{run_id}'"


@pytest.mark.parametrize("way", NOT_CARRIED_OUT)
def test_what_is_written_down_can_still_be_carried_out(erased: Erased, way: str) -> None:
    """Or the variations below may be refused for something else than what they vary."""
    connection = erased.by(way)
    with connection.transaction(force_rollback=True):
        for statement in NOT_CARRIED_OUT[way]:
            connection.execute(statement.encode())
        assert connection.execute(change(ERASED, "whole").encode()).rowcount == 1


@pytest.mark.parametrize("varied", VARIATIONS.values(), ids=VARIATIONS)
@pytest.mark.parametrize("way", NOT_CARRIED_OUT)
def test_an_erasure_is_carried_out_as_a_whole_and_with_nothing_beside_it(
    erased: Erased, way: str, varied: dict[str, str]
) -> None:
    assert erased.tried(way, *NOT_CARRIED_OUT[way], change(varied, "whole")) == REFUSED


@pytest.mark.parametrize("varied", [ERASED, *VARIATIONS.values()], ids=["itself", *VARIATIONS])
@pytest.mark.parametrize("who", WHO)
def test_nothing_is_erased_that_is_not_written_down(
    erased: Erased, who: str, varied: dict[str, str]
) -> None:
    assert erased.tried(who, *WHO[who], change(varied, "whole")) == REFUSED


@pytest.mark.parametrize("who", WHO)
def test_what_is_erased_is_neither_erased_again_nor_restored(erased: Erased, who: str) -> None:
    parts = [{name: value} for name, value in erased.restored.items()]
    beside = [{name: value} for name, value in BESIDE.items()]
    for columns in (ERASED, erased.restored, {"salt": "sha256('')"}, *parts, *beside):
        assert erased.tried(who, *WHO[who], change(columns, "erased")) == REFUSED


@pytest.mark.parametrize("who", WHO)
def test_an_update_of_nothing_is_refused_after_an_erasure_too(erased: Erased, who: str) -> None:
    nothing = "UPDATE ledger.execution_ledger SET status = 'failed' WHERE false"
    erasing = [*WHO[who], WRITTEN]
    if REPLICA in erasing:
        erasing.append(change(ERASED, "whole"))
    assert erased.tried(who, *erasing, nothing) == REFUSED
    assert erased.tried(who, *WHO[who], f"WITH none AS ({nothing}) {WRITTEN}") == REFUSED


@pytest.mark.parametrize("way", NOT_CARRIED_OUT)
def test_an_erasure_adds_no_digits_to_the_total(erased: Erased, way: str) -> None:
    padded = ERASED | {"cost_json": """'{"total": 1.500, "breakdown": {}}'"""}
    connection = erased.by(way)
    with connection.transaction(force_rollback=True):
        for statement in NOT_CARRIED_OUT[way]:
            connection.execute(statement.encode())
        with pytest.raises(psycopg.Error):
            connection.execute(change(padded, "whole").encode())


def test_nobody_is_told_of_an_erasure_that_was_not_carried_out(database_url: str) -> None:
    with audited(database_url, execution("whole")) as ledger:
        sql(database_url, f"{REPLICA}; {WRITTEN}".replace("LOCAL ", ""))
        ledger.audit.erase_payload("whole", "a request")
    assert run_of(database_url, "whole")["salt"] is None


@pytest.mark.parametrize("who", ["superuser", "owner"])
@pytest.mark.parametrize(
    "run, code",
    [
        (f"'{PROJECT}', 99, 'a request'", "23503"),
        (f"'{OTHER_PROJECT}', 1, 'a request'", "23503"),
        (f"'{PROJECT}', 1, 'again'", "23505"),
        (f"'{PROJECT}', 2, ''", "23514"),
    ],
    ids=["no such run", "no such chain", "erased before", "no reason"],
)
def test_an_erasure_is_of_a_run_that_is_whole_and_has_a_reason(
    erased: Erased, who: str, run: str, code: str
) -> None:
    statement = "INSERT INTO ledger.execution_erasures (project_id, sequence, reason) VALUES"
    assert erased.tried(who, f"{statement} ({run})") == code
