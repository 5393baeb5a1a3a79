"""Runs are recorded once, whole, in one gapless chain a project, whoever writes at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import create_engine, make_url, text

from ledger import Ledger
from ledger.ddl import migrate
from ledger.engine import engine
from ledger.errors import (
    ConflictingRecord,
    Contended,
    DatabaseUnavailable,
    InvalidRecord,
    SchemaNotReady,
    UnknownReference,
)
from ledger.records.execution import Execution
from ledger.records.execution_parts import ExecutionCost, ExecutionTrace
from tests.audits import (
    ALICE,
    BOB,
    NESTED,
    OTHER_PROJECT,
    PROJECT,
    audited,
    by_sql,
    execution,
    introduce,
    narrowed_to,
    sqlstate,
)
from tests.databases import Target
from tests.ledgers import ledger_at
from tests.roles import roles_of
from tests.writers import Kind, sql, stop_jobs

NOW = datetime.now(UTC).replace(microsecond=0)


def step(details: Any) -> dict[str, Any]:
    return {"action": "one", "details": details}


@pytest.fixture
def ledger(database_url: str, kind: Kind) -> Iterator[Ledger]:
    """A ledger that is called, and one that is awaited, which know two users and two projects."""
    stop_jobs(database_url)
    with ledger_at(database_url, kind) as ledger:
        introduce(ledger)
        yield ledger


# --- what is recorded ---


def test_a_completed_run_is_recorded_as_it_was_sent(ledger: Ledger) -> None:
    sent = execution(
        "run-12345-abc",
        agent_id="backend",
        intent="Deploy microservice to production",
        input={"service": "user-api", "version": "v2.1.0", "limits": [Decimal("1.10"), 2, None]},
        output={"deployed": True, "instances": 3},
        cost={
            "total": 850,
            "breakdown": {"tokens": 300, "toolCalls": 450, "externalRequests": 100},
        },
        trace={
            "steps": [
                {"timestamp": "2026-02-13T10:30:00Z", "action": "validate", "duration_ms": 250},
                {"action": "build", "duration_ms": 3000, "result": "success"},
            ],
            "duration_ms": 6750,
            "tool_calls": 8,
            "api_calls": 12,
        },
        created_at=NOW - timedelta(hours=1),
        error_message=None,
    )

    record = ledger.audit.record_execution(sent)

    for name in ("run_id", "project_id", "user_id", "agent_id", "intent", "input", "output"):
        assert getattr(record, name) == sent[name]
    assert record.created_at == sent["created_at"]
    assert (record.status, record.error_message) == ("completed", None)
    assert (record.total_cost_cents, record.duration_ms) == (Decimal(850), 6750)
    assert (record.cost, record.trace) == (
        ExecutionCost(**sent["cost"]),
        ExecutionTrace(**sent["trace"]),
    )
    assert record == ledger.audit.execution("run-12345-abc")


@pytest.mark.parametrize(
    "status, message",
    [
        ("failed", "Database migration failed: constraint violation. Changes rolled back."),
        ("aborted", "Execution aborted: Budget exceeded. Allocated: $50.00, Spent: $100.00"),
    ],
)
def test_a_run_that_did_not_complete_is_recorded_with_its_message(
    ledger: Ledger, status: str, message: str
) -> None:
    record = ledger.audit.record_execution(
        execution(status=status, error_message=message, output=None)
    )

    assert (record.status, record.error_message, record.output) == (status, message, None)


def test_a_run_without_a_time_is_of_the_moment_at_which_it_is_recorded(ledger: Ledger) -> None:
    record = ledger.audit.record_execution(execution(created_at=None))

    assert abs(record.created_at - record.recorded_at) < timedelta(seconds=30)
    assert abs(record.recorded_at - datetime.now(UTC)) < timedelta(seconds=30)


@pytest.mark.parametrize(
    "number",
    [
        Decimal("0.1"),
        Decimal("1.10"),
        Decimal("12345678901234567890.123456789012345678901234567890"),
        10**40,
        -1,
        Decimal("1E-30"),
    ],
)
def test_every_digit_of_a_number_is_kept(ledger: Ledger, number: Decimal) -> None:
    record = ledger.audit.record_execution(execution(input={"deep": [{"number": number}]}))

    assert record.input["deep"][0]["number"] == number
    assert format(Decimal(record.input["deep"][0]["number"]), "f") == format(Decimal(number), "f")


@pytest.mark.parametrize(
    "cost, parts",
    [
        ("0.000000000001", {}),
        (Decimal("999999999999.999999999999"), {}),
        ({"total": "2.5", "breakdown": {"tokens": "0.3", "gpu": "1.7", "penalties": 0}}, 3),
        (ExecutionCost(total=Decimal(1)), {}),
    ],
)
def test_costs_are_exact_and_broken_down(ledger: Ledger, cost: Any, parts: Any) -> None:
    record = ledger.audit.record_execution(execution(cost=cost))

    wanted = cost["total"] if isinstance(cost, dict) else getattr(cost, "total", cost)
    assert record.total_cost_cents == record.cost.total == Decimal(wanted)
    assert len(record.cost.breakdown.to_json()) == (parts or 0)


def test_text_of_any_language_and_markup_is_kept(ledger: Ledger) -> None:
    words = "«naïve» 🜁 日本語 \u2028 \\u0041 '; DROP TABLE x; -- \" {} % :x \t\n"

    record = ledger.audit.record_execution(
        execution(words, agent_id=words, intent=words, input={words: words})
    )

    assert (record.run_id, record.agent_id, record.intent) == (words, words, words)
    assert record.input == {words: words}


# --- once ---


def test_the_same_run_again_is_a_success_and_recorded_once(ledger: Ledger) -> None:
    first = ledger.audit.record_execution(execution())

    assert ledger.audit.record_execution(execution()) == first
    assert ledger.audit.record_execution(Execution(**execution())) == first
    assert ledger.audit.verify(PROJECT).rows == 1


@pytest.mark.parametrize(
    "other, named",
    [
        ({"agent_id": "another"}, "agent_id"),
        ({"intent": "another"}, "intent"),
        ({"input": {"question": "What?"}}, "input"),
        ({"output": None}, "output"),
        ({"cost": "1.6"}, "cost"),
        ({"trace": {"duration_ms": 901}}, "trace"),
        ({"status": "failed"}, "status"),
        ({"error_message": "Another."}, "error_message"),
        ({"user_id": BOB}, "user_id"),
        ({"project_id": OTHER_PROJECT}, "project_id"),
        ({"parent_run_id": None}, "parent_run_id"),
        ({"created_at": NOW - timedelta(days=1)}, "created_at"),
    ],
)
def test_another_run_under_the_same_id_is_a_conflict(
    ledger: Ledger, other: dict[str, Any], named: str
) -> None:
    first = ledger.audit.record_execution(execution())

    with pytest.raises(ConflictingRecord) as raised:
        ledger.audit.record_execution(execution(**other))

    assert named in raised.value.differing
    assert "use another run_id" in str(raised.value)
    assert ledger.audit.execution("run") == first


def test_a_copy_is_recorded_with_what_was_changed_in_it(ledger: Ledger) -> None:
    first = Execution(**execution("first"))
    other = first.model_copy(update={"run_id": "other", "input": {"a": 2}, "cost": 7})
    for run in (first, other, first.model_copy()):
        ledger.audit.record_execution(run)

    found = ledger.audit.execution("other")
    assert found is not None
    assert found.input == {"a": 2}
    assert found.total_cost_cents == Decimal(7)
    with pytest.raises(ConflictingRecord):
        ledger.audit.record_execution(first.model_copy(update={"cost": 9}))
    with pytest.raises(InvalidRecord):
        first.model_copy(update={"cost": -9})
    with pytest.raises(InvalidRecord):
        ledger.audit.record_execution(Execution.model_construct(**execution("unchecked")))


class Status(StrEnum):
    FINE = "fine"


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return f"{super().__str__()}!"


class Decorated(float):
    def __repr__(self) -> str:
        return f"number({super().__repr__()})"


def test_values_of_subclasses_are_kept_as_what_they_are(ledger: Ledger) -> None:
    given = {Loud("key"): [Loud("text"), Decorated(1.5), Status.FINE, Decimal("1.50")]}
    ledger.audit.record_execution(execution(input=given))

    found = ledger.audit.execution("run")
    assert found is not None
    assert json.dumps(found.input, default=str) == '{"key": ["text", "1.5", "fine", "1.50"]}'


def test_an_erasure_is_of_a_time_in_utc(database_url: str, kind: Kind) -> None:
    zone = "ALTER DATABASE {} SET timezone = 'Asia/Kolkata'"
    sql(database_url, zone.format(make_url(database_url).database))
    with ledger_at(database_url, kind) as ledger:
        introduce(ledger)
        ledger.audit.record_execution(execution())

        assert ledger.audit.erase_payload("run", "a request").erased_at.tzinfo is UTC


@pytest.mark.parametrize(
    "odd, unread",
    [
        ({"cost_json": {"total": 1, "breakdown": {}, "extra": 5}}, ("cost",)),
        ({"cost_json": {"total": 1, "breakdown": {"x": "abc"}}}, ("cost",)),
        ({"execution_trace_json": {"duration_ms": 7, "steps": [{"foo": 1}]}}, ("trace",)),
        ({"execution_trace_json": {"duration_ms": 7, "steps": 5}}, ("trace",)),
        ({"input": NESTED}, ("input",)),
    ],
)
def test_what_somebody_appended_in_another_form_is_read_all_the_same(
    ledger: Ledger, database_url: str, odd: dict[str, Any], unread: tuple[str, ...]
) -> None:
    appended = f"ledger.append_executions(ARRAY['{PROJECT}']::uuid[], '{by_sql(**odd)}')"
    sql(database_url, f"SELECT {appended}")

    found = ledger.audit.executions_by_project(PROJECT).executions[0]
    assert found.unread == unread
    assert found.cost.total == found.total_cost_cents == Decimal(1)
    assert found.trace.duration_ms == found.duration_ms == 7
    assert found.to_dict()["unread"] == list(unread)
    assert ledger.audit.verify(PROJECT).is_intact


def test_a_run_that_was_erased_may_be_sent_again(ledger: Ledger) -> None:
    ledger.audit.record_execution(execution())
    ledger.audit.erase_payload("run", "a request")

    assert ledger.audit.record_execution(execution()).is_erased
    with pytest.raises(ConflictingRecord, match="total cost"):
        ledger.audit.record_execution(execution(cost=99))


def test_a_batch_is_recorded_in_part(ledger: Ledger) -> None:
    ledger.audit.record_execution(execution("there"))
    seen: list[int] = []

    runs: list[Any] = [
        execution("new"),
        execution("there"),
        execution("there", intent="another"),
        execution("new"),
        execution("new", cost=3),
        execution("unknown user", user_id=uuid4()),
        execution("unknown project", project_id=uuid4()),
        execution("tomorrow", created_at=NOW + timedelta(days=1)),
        execution("bad", status="failed", error_message=None),
        {**execution("odd"), 3: 4},
        execution("last", project_id=OTHER_PROJECT),
    ]
    report = ledger.audit.record_executions(
        runs,
        batch_size=4,
        on_rejected=lambda rejected: seen.append(rejected.index),
    )

    assert (report.inserted, report.duplicates, report.rejected_count) == (2, 2, 7)
    assert {rejected.index: rejected.error for rejected in report.rejected} == {
        2: "ConflictingRecord",
        4: "ConflictingRecord",
        5: "UnknownReference",
        6: "UnknownReference",
        7: "InvalidRecord",
        8: "InvalidRecord",
        9: "InvalidRecord",
    }
    assert sorted(seen) == [2, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("number", ["0E-99999", "1." + "0" * 20_000, "1E+3"])
def test_zeros_that_say_nothing_are_not_kept_without_end(ledger: Ledger, number: str) -> None:
    cost = {"total": number, "breakdown": {"tokens": number}}
    trace = {"duration_ms": 1, "steps": [{"action": "one", "cost_cents": number}]}
    stored = ledger.audit.record_execution(execution(cost=cost, trace=trace))

    assert stored.total_cost_cents == Decimal(number)
    (step,) = stored.trace.steps
    for amount in (stored.cost.total, stored.cost.breakdown.tokens, step.cost_cents):
        assert amount == Decimal(number)
        assert len(str(amount)) < 20


def test_numbers_in_payloads_are_numbers_in_a_dict_too(ledger: Ledger) -> None:
    kept = {"a": 0.7, "b": "0.7", "c": 7, "d": [{"e": -1e-7}], "g": None}
    given = {**kept, "exact": Decimal("0.12345678901234567890")}
    step = {"action": "one", "result": given, "details": given, "cost_cents": "0.7"}
    trace = {"duration_ms": 1, "steps": [step]}
    run = ledger.audit.record_execution(execution(input=given, output=given, trace=trace))

    found = json.loads(json.dumps(run.to_dict()))
    (told,) = found["trace"]["steps"]
    expected = {**kept, "exact": "0.12345678901234567890"}
    assert [found["input"], found["output"], told["result"], told["details"]] == [expected] * 4
    assert told["cost_cents"] == "0.7"


@pytest.mark.parametrize(
    "bad, named",
    [
        ({"run_id": ""}, "run_id ''"),
        ({"run_id": "x" * 256}, "run_id"),
        ({"agent_id": "a\0b"}, "agent_id"),
        ({"intent": "x" * 10_001}, "intent"),
        ({"input": {"a": {"b": [float("nan")]}}}, r"input\.a\.b\[0\]"),
        ({"input": {"a": object()}}, r"input\.a"),
        ({"input": {1: 2}}, "input"),
        ({"input": {"a": "x" * 1_048_576}}, "over the limit of 1,048,576"),
        ({"input": {"a": Decimal("1E+5000")}}, "1,000 digits"),
        ({"output": {"a": "\ud800"}}, "lone surrogate"),
        ({"input": {"\ud800": 1}}, "lone surrogate"),
        ({"cost": {"total": 1, "breakdown": {"a\0b": 1}}}, "NUL"),
        ({"cost": {"total": 1, "breakdown": {"tool_calls": 1, "toolCalls": 2}}}, "too"),
        ({"cost": -1}, r"cost\.total -1"),
        ({"cost": {"total": 1, "breakdown": {"tokens": -1}}}, r"cost\.breakdown\.tokens -1"),
        ({"cost": 10**12}, "12 digits"),
        ({"trace": {"duration_ms": -1}}, r"trace\.duration_ms -1"),
        ({"trace": {"duration_ms": 1, "steps": [{"tool": "x"}]}}, r"trace\.steps\.0\.action"),
        ({"status": "cancelled"}, "status 'cancelled'"),
        ({"status": "aborted", "error_message": None}, "error_message None"),
        ({"parent_run_id": "run"}, "parent_run_id 'run'"),
        ({"created_at": datetime(2026, 1, 1)}, "created_at"),  # noqa: DTZ001 - it is the point
        ({"created_at": NOW + timedelta(hours=1)}, "created_at"),
        ({"surplus": 1}, "surplus"),
        (
            {"trace": {"duration_ms": 1, "steps": [{"action": "a"}, step({"x": {1: 2}})]}},
            r"trace\.steps\.1\.details\.x\.1 1: is not text",
        ),
        ({3: 4}, "field 3: is not a name"),
        ({"cost": {"total": Decimal("1E+30")}}, r"cost\.total Decimal\('1E\+30'\): more than 12"),
        ({"trace": {"duration_ms": True}}, r"trace\.duration_ms True"),
        ({"trace": {"duration_ms": 1, "tool_calls": True}}, r"trace\.tool_calls True"),
        ({"cost": {"total": True}}, r"cost\.total True"),
    ],
)
def test_a_run_that_breaks_a_rule_is_refused_by_name_and_nothing_is_recorded(
    ledger: Ledger, bad: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRecord, match=named):
        ledger.audit.record_execution({**execution(), **bad})

    assert ledger.audit.verify(PROJECT).rows == 0


@pytest.mark.parametrize("field", ["user_id", "project_id"])
def test_an_unknown_user_or_project_is_named(ledger: Ledger, field: str) -> None:
    unknown = uuid4()

    run = {**execution(), field: unknown}
    with pytest.raises(UnknownReference, match=f"{field} {unknown}"):
        ledger.audit.record_execution(run)


def test_a_run_that_nobody_recorded_is_none(ledger: Ledger) -> None:
    assert ledger.audit.execution("nothing") is None


# --- where ---


def test_a_database_without_a_ledger_says_what_to_run(empty_database_url: str, kind: Kind) -> None:
    with ledger_at(empty_database_url, kind) as ledger:
        for ask in (
            lambda: ledger.audit.execution("run"),
            lambda: ledger.audit.record_execution(execution()),
            lambda: ledger.audit.verify(PROJECT),
        ):
            with pytest.raises(SchemaNotReady, match="ledger db upgrade"):
                ask()


def test_a_database_that_cannot_be_reached_is_told(kind: Kind) -> None:
    with (
        ledger_at("postgresql+psycopg://nobody@127.0.0.1:1/nowhere", kind) as ledger,
        pytest.raises(DatabaseUnavailable),
    ):
        ledger.audit.record_execution(execution())


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_bound_ledger_records_in_the_callers_transaction(database_url: str, driver: str) -> None:
    with Ledger.connect(database_url) as ledger:
        introduce(ledger)
    own = create_engine(database_url.replace("+psycopg", f"+{driver}"))
    with own.connect() as connection:
        bound = Ledger.bound(connection).audit
        assert bound.record_execution(execution()).sequence == 1
        assert bound.record_execution(execution()).sequence == 1
        with pytest.raises(ConflictingRecord):
            bound.record_execution(execution(intent="another"))
        assert bound.record_execution(execution("second")).sequence == 2
        assert bound.verify(PROJECT).rows == 2
        connection.rollback()
        assert bound.execution("run") is None
    own.dispose()


# --- at once ---


def test_eight_writers_leave_one_gapless_chain_a_project(database_url: str) -> None:
    with Ledger.connect(database_url) as ledger:
        introduce(ledger)

    def write(writer: int) -> None:
        with Ledger.connect(database_url) as ledger:
            for batch in range(6):
                ledger.audit.record_executions(
                    execution(
                        # Some are sent by two of them.
                        f"{writer // 2 if number % 5 == 0 else writer}-{batch}-{number}",
                        project_id=PROJECT if number % 3 else OTHER_PROJECT,
                    )
                    for number in range(20)
                )

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))

    sent = {
        f"{writer // 2 if number % 5 == 0 else writer}-{batch}-{number}"
        for writer in range(8)
        for batch in range(6)
        for number in range(20)
    }
    with Ledger.connect(database_url) as ledger:
        found = ledger.audit.verify_all()
    assert found.is_intact, found
    assert sum(project.rows for project in found.projects) == len(sent)
    assert {run for (run,) in sql(database_url, "SELECT run_id FROM ledger.execution_ledger")} == (
        sent
    )


def test_the_same_id_in_two_projects_at_once_is_recorded_in_one(database_url: str) -> None:
    with Ledger.connect(database_url) as ledger:
        introduce(ledger)

    def write(project: object) -> str:
        with Ledger.connect(database_url) as ledger:
            try:
                ledger.audit.record_execution(execution(project_id=project))
            except ConflictingRecord:
                return "conflict"
            return "recorded"

    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(write, [PROJECT, OTHER_PROJECT] * 4))

    assert sql(database_url, "SELECT count(*) FROM ledger.execution_ledger") == [(1,)]
    assert sorted(said) == ["conflict"] * 4 + ["recorded"] * 4


def test_who_cannot_see_what_others_commit_is_told_and_leaves_no_fork(database_url: str) -> None:
    own = engine(database_url)
    with Ledger.connect(database_url) as ledger:
        introduce(ledger)
        ledger.audit.record_execution(execution("first"))
        with own.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            connection.execute(text("SELECT count(*) FROM ledger.execution_heads"))
            ledger.audit.record_execution(execution("second"))
            with pytest.raises(Exception, match=r"(?i)concurrent|stood in each other"):
                Ledger.bound(connection).audit.record_execution(execution("third"))
        assert ledger.audit.verify(PROJECT).rows == 2
    own.dispose()


def test_a_run_id_that_a_snapshot_does_not_show_is_to_be_recorded_again(database_url: str) -> None:
    own = engine(database_url)
    with audited(database_url) as ledger:
        with own.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            connection.execute(text("SELECT count(*) FROM ledger.execution_heads"))
            ledger.audit.record_execution(execution(project_id=OTHER_PROJECT))
            bound = Ledger.bound(connection)
            with pytest.raises(Contended, match="in a new transaction"):
                bound.audit.record_execution(execution())
            with pytest.raises(Contended, match="in a new transaction"):
                bound.audit.record_executions([execution("another"), execution()])
            connection.rollback()
            with pytest.raises(ConflictingRecord):
                bound.audit.record_execution(execution())
        assert ledger.audit.verify_all().is_intact
    own.dispose()


def test_a_session_that_is_narrowed_to_another_user_records_nothing(
    database_url: str, kind: Kind
) -> None:
    with audited(database_url), ledger_at(narrowed_to(BOB, database_url), kind) as ledger:
        with pytest.raises(UnknownReference, match="narrows this session"):
            ledger.audit.record_execution(execution())
        own = execution("own", user_id=BOB)
        report = ledger.audit.record_executions([execution(), own])
        assert (report.inserted, [each.index for each in report.rejected]) == (1, [0])
        assert ledger.audit.record_execution(own).user_id == BOB

    assert sql(database_url, "SELECT run_id FROM ledger.execution_ledger") == [("own",)]


@pytest.mark.parametrize("most, appends", [(1, 3), (8 * 1024 * 1024, 1)])
def test_a_batch_that_is_large_is_sent_in_parts(
    ledger: Ledger, database_url: str, monkeypatch: pytest.MonkeyPatch, most: int, appends: int
) -> None:
    monkeypatch.setattr("ledger.write.executions.MOST_CHARACTERS", most)
    ledger.audit.record_executions(execution(f"{place}") for place in range(3))

    times = "SELECT count(DISTINCT recorded_at), count(*) FROM ledger.execution_ledger"
    assert sql(database_url, times) == [(appends, 3)]
    assert ledger.audit.verify(PROJECT).is_intact


def test_a_user_and_a_project_may_have_the_same_id(database_url: str) -> None:
    same = UUID(int=77)
    with audited(database_url) as ledger:
        of_same = execution(user_id=same, project_id=same)
        with pytest.raises(UnknownReference, match="user_id"):
            ledger.audit.record_execution(execution(user_id=PROJECT))
        with pytest.raises(UnknownReference, match="project_id"):
            ledger.audit.record_execution(execution(project_id=ALICE))
        ledger.tenancy.upsert_user(id=same, tier="pro")
        ledger.tenancy.upsert_project("personal", id=same)
        with (
            Ledger.connect(narrowed_to(BOB, database_url)) as of_bob,
            pytest.raises(UnknownReference, match="narrows this session"),
        ):
            of_bob.audit.record_execution(of_same)
        assert ledger.audit.record_execution(of_same).user_id == same


UUIDV7 = "00000000-0000-7000-8000-00000000000"


def test_a_narrowed_session_appends_nobody_elses_runs_by_sql_either(database_url: str) -> None:
    with audited(database_url), roles_of(database_url) as roles:
        for number, kind in enumerate(("service", "writer")):
            append = (
                f"SELECT ledger.append_executions(ARRAY['{PROJECT}']::uuid[], $json${{}}$json$)"
            )
            of_alice = append.format(by_sql(run_id=f"by a {kind}", id=f"{UUIDV7}{number}"))
            role = roles.granted(kind)
            with pytest.raises(InsufficientPrivilege, match="narrows this session"):
                role.sql(of_alice, ledger__user_id=str(BOB))
            assert role.sql(of_alice, ledger__user_id=str(ALICE)) == [(1,)]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-05:00"])
def test_a_step_at_a_time_that_is_none_takes_no_other_run_with_it(
    database_url: str, moment: str
) -> None:
    odd = execution(
        "odd", trace={"duration_ms": 1, "steps": [{"action": "x", "timestamp": moment}]}
    )
    with audited(database_url) as ledger:
        report = ledger.audit.record_executions([execution("first"), odd, execution("last")])

    assert (report.inserted, [each.index for each in report.rejected]) == (2, [1])
    assert "timestamp" in report.rejected[0].reason


def test_runs_of_a_batch_are_appended_in_their_order(database_url: str) -> None:
    with audited(database_url) as ledger:
        first, second, third = (execution(run_id) for run_id in ("first", "second", "third"))
        report = ledger.audit.record_executions([first, second, first, third])

    assert (report.inserted, report.duplicates) == (3, 1)
    assert sql(database_url, "SELECT run_id FROM ledger.execution_ledger ORDER BY sequence") == [
        ("first",),
        ("second",),
        ("third",),
    ]


def test_a_run_id_that_a_run_has_which_is_not_to_be_seen_is_a_conflict(database_url: str) -> None:
    with (
        audited(database_url, execution("taken")),
        Ledger.connect(narrowed_to(BOB, database_url)) as ledger,
    ):
        taken, fresh = (execution(run_id, user_id=BOB) for run_id in ("taken", "fresh"))
        with pytest.raises(ConflictingRecord, match="user_id"):
            ledger.audit.record_execution(taken)
        report = ledger.audit.record_executions([taken, fresh])
        assert (report.inserted, [each.index for each in report.rejected]) == (1, [0])


def test_a_table_with_one_more_column_takes_runs(database_url: str) -> None:
    with audited(database_url):
        sql(database_url, "ALTER TABLE ledger.execution_ledger ADD COLUMN note text")
    with Ledger.connect(database_url) as ledger:
        ledger.audit.record_execution(execution())
        assert ledger.audit.verify(PROJECT).is_intact


def test_strings_may_be_read_as_they_were_once(empty_database_url: str, target: Target) -> None:
    database_url, name = empty_database_url, make_url(empty_database_url).database
    sql(database_url, f"ALTER DATABASE {name} SET standard_conforming_strings = off")
    migrate.upgrade(database_url, storage=target.storage, percentiles=target.percentiles)
    stop_jobs(database_url)
    with audited(database_url, execution("back\\slash"), execution("second")) as ledger:
        ledger.audit.erase_payload("second", "a \\ request")
        found = ledger.audit.verify(PROJECT, checkpoint=ledger.audit.checkpoint())

        assert ledger.audit.verify_all().is_intact

    assert (found.is_intact, found.rows, found.erased) == (True, 2, 1)


@pytest.mark.parametrize("kind", ["writer", "service"])
@pytest.mark.parametrize("ahead", ["25 hours", "8000 years"])
def test_a_run_of_times_to_come_cannot_be_put_before_all_others_by_sql(
    database_url: str, kind: str, ahead: str
) -> None:
    [(at, milliseconds)] = sql(
        database_url,
        "SELECT to_jsonb(at)::text, (extract(epoch FROM at) * 1000)::bigint"
        f" FROM (SELECT date_trunc('second', now()) + interval '{ahead}' AS at) AS moment",
    )
    of = f"{milliseconds:012x}"
    id_then = f"{of[:8]}-{of[8:]}-7000-8000-000000000001"
    run = by_sql(id=id_then, created_at=json.loads(at))
    appended = f"SELECT ledger.append_executions(ARRAY['{PROJECT}']::uuid[], '{run}')"
    with audited(database_url, execution("first")) as ledger, roles_of(database_url) as roles:
        with roles.granted(kind).connect() as connection:
            assert sqlstate(connection, appended) == "LG005"
        (first,) = ledger.audit.executions_by_project(PROJECT).executions
    assert first.run_id == "first"


WRITER = """
import sys
from ledger import Ledger
from tests.audits import execution
with Ledger.connect(sys.argv[1]) as ledger:
    print("writing", flush=True)
    ledger.audit.record_executions((execution(f"r{n}") for n in range(100_000)), batch_size=50)
"""


def test_a_writer_that_is_killed_leaves_whole_batches_and_an_intact_chain(
    database_url: str,
) -> None:
    with Ledger.connect(database_url) as ledger:
        introduce(ledger)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, database_url],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            while not sql(database_url, "SELECT FROM ledger.execution_ledger OFFSET 500 LIMIT 1"):
                pass
            writer.send_signal(signal.SIGKILL)
            writer.wait(timeout=30)
        rows = sql(database_url, "SELECT count(*) FROM ledger.execution_ledger")[0][0]

        found = ledger.audit.verify(PROJECT)
        assert found.is_intact
        assert found.rows % 50 == 0
        assert found.rows >= rows - 50
        ledger.audit.record_executions(execution(f"r{n}") for n in range(1000))
        assert ledger.audit.verify(PROJECT).is_intact
