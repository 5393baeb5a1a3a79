"""A run is recorded when its block ends, however it ends, and nobody's exception is masked."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest

from ledger import AsyncLedger, Ledger
from ledger.errors import BudgetExceeded, InvalidArgument, InvalidRecord, UnknownReference
from ledger.pricing.budget_rates import BudgetRates
from ledger.records.audit import ExecutionRecord
from ledger.repositories.audit_runs import AsyncRun, Run
from tests.audits import ALICE, PROJECT, introduce
from tests.ledgers import PRICE
from tests.writers import Kind, sql

WHO: dict[str, Any] = {
    "project_id": PROJECT,
    "user_id": ALICE,
    "agent_id": "backend",
    "intent": "Deploy the service.",
}


class Broken(Exception):
    """What a host's own code raises."""


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    with Ledger.connect(database_url) as ledger:
        introduce(ledger)
        yield ledger


def within(
    url: str, kind: Kind, block: Callable[[Any], object], **given: Any
) -> ExecutionRecord | None:
    """Have the block done in a run, called or awaited, and give what was recorded of it."""
    asked = {"run_id": "run", **WHO, **given}
    if kind == "called":
        with Ledger.connect(url) as ledger:
            run: Run = ledger.audit.execution(**asked)
            with run:
                block(run)
            return run.record

    async def awaited() -> ExecutionRecord | None:
        async with AsyncLedger.connect(url) as ledger:
            run: AsyncRun = ledger.audit.execution(**asked)
            async with run:
                block(run)
            return run.record

    return asyncio.run(awaited())


def recorded(ledger: Ledger, run_id: str = "run") -> ExecutionRecord:
    found = ledger.audit.execution(run_id)
    assert found is not None
    return found


def test_a_run_that_ends_well_is_recorded_as_completed(
    ledger: Ledger, database_url: str, kind: Kind
) -> None:
    def block(run: Any) -> None:
        with run.step("build", tool="docker") as step:
            step.cost_cents = run.budget.account_tool_call("docker", cents="2.5")
            step.result = {"image": "user-api"}
        run.budget.account_external_request("stripe", 3, cents=1)
        run.output = {"deployed": True}

    record = within(database_url, kind, block, input={"service": "user-api"}, budget_cents=5000)

    assert record == recorded(ledger)
    assert (record.status, record.error_message) == ("completed", None)
    assert (record.input, record.output) == ({"service": "user-api"}, {"deployed": True})
    assert record.total_cost_cents == Decimal("5.5")
    assert record.cost.breakdown.tool_calls == Decimal("2.5")
    assert record.cost.breakdown.external_requests == 3
    (step,) = record.trace.steps
    assert (step.action, step.tool, step.cost_cents) == ("build", "docker", Decimal("2.5"))
    assert (step.result, step.error) == ({"image": "user-api"}, None)
    assert (record.trace.tool_calls, record.trace.api_calls) == (1, 3)


def test_a_run_that_raises_is_recorded_as_failed_and_raises(
    ledger: Ledger, database_url: str, kind: Kind
) -> None:
    def block(run: Any) -> None:
        with run.step("migrate"):
            raise Broken("constraint\0violated")

    with pytest.raises(Broken):
        within(database_url, kind, block)

    record = recorded(ledger)
    assert (record.status, record.error_message) == ("failed", "Broken: constraint�violated")
    assert record.trace.steps[0].error == "Broken: constraint�violated"


def test_a_run_over_its_budget_is_recorded_as_aborted(
    ledger: Ledger, database_url: str, kind: Kind
) -> None:
    def block(run: Any) -> None:
        run.budget.account_penalty(10_000)
        run.budget.require()

    with pytest.raises(BudgetExceeded):
        within(database_url, kind, block, budget_cents=5000)

    record = recorded(ledger)
    assert record.status == "aborted"
    assert record.error_message == (
        "Execution aborted: Budget exceeded. Allocated: $50.00, Spent: $100.00"
    )
    assert record.total_cost_cents == 10_000


def test_a_run_that_somebody_stops_is_recorded_as_aborted(
    ledger: Ledger, database_url: str
) -> None:
    def block(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        within(database_url, "called", block)

    assert (recorded(ledger).status, recorded(ledger).error_message) == (
        "aborted",
        "KeyboardInterrupt: ",
    )


def test_a_task_that_is_cancelled_has_its_run_recorded(ledger: Ledger, database_url: str) -> None:
    async def cancelled() -> None:
        async with AsyncLedger.connect(database_url) as awaited:

            async def agent() -> None:
                run: AsyncRun = awaited.audit.execution(**{"run_id": "run", **WHO})
                async with run:
                    begun.set()
                    await asyncio.Event().wait()

            begun = asyncio.Event()
            task = asyncio.create_task(agent())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())

    assert recorded(ledger).status == "aborted"


def test_tokens_are_priced_by_the_catalogue(ledger: Ledger, database_url: str, kind: Kind) -> None:
    ledger.tenancy.upsert_provider("openai")
    ledger.billing.add_prices([PRICE])

    record = within(
        database_url, kind, lambda run: run.budget.account_tokens(10_000, 15_000, model="gpt-4o")
    )

    assert record is not None
    assert record.total_cost_cents == Decimal("17.5"), "2.5 cents for input, 15 for output"


def test_tokens_of_an_unknown_model_are_priced_by_the_rates(
    ledger: Ledger, database_url: str, kind: Kind
) -> None:
    rates = BudgetRates(input_cents_per_million=100, output_cents_per_million=200)

    record = within(
        database_url,
        kind,
        lambda run: run.budget.account_tokens(10_000, 15_000, model="unheard-of"),
        rates=rates,
    )

    assert record is not None
    assert record.total_cost_cents == 4
    assert ledger.audit.agent_cost_statistics("backend").total_cents == 4


def test_threads_share_a_run(ledger: Ledger, database_url: str) -> None:
    def block(run: Any) -> None:
        def work() -> None:
            for _ in range(50):
                with run.step("search", tool="web") as step:
                    step.cost_cents = run.budget.account_tool_call("web", cents="0.1")

        threads = [Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    within(database_url, "called", block)

    record = recorded(ledger)
    assert record.total_cost_cents == 40
    assert len(record.trace.steps) == 400


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.usefixtures("ledger")
def test_a_run_that_cannot_be_recorded_is_logged_whole(
    database_url: str,
    kind: Kind,
    caplog: pytest.LogCaptureFixture,
    fails: bool,  # noqa: FBT001 - whether the block does
) -> None:
    def block(run: Any) -> None:
        run.output = {"answer": 42}
        run.budget.account_penalty("1.25", "late")
        # While it runs, the project is taken away: nobody has recorded anything for it yet.
        sql(database_url, "DELETE FROM ledger.projects")
        if fails:
            raise Broken("as it was")

    expected: type[Exception] = Broken if fails else UnknownReference
    with caplog.at_level(logging.ERROR, "ledger.audit"), pytest.raises(expected) as raised:
        within(database_url, kind, block)

    (logged,) = caplog.records
    whole = json.loads(logged.getMessage().partition("it is: ")[2])
    assert (whole["run_id"], whole["output"]) == ("run", {"answer": 42})
    assert whole["status"] == ("failed" if fails else "completed")
    assert whole["cost"]["total"] == "1.25"
    if fails:
        assert "could not be recorded" in raised.value.__notes__[0]


def test_what_is_no_json_does_not_mask_what_was_raised(
    ledger: Ledger, database_url: str, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    def block(run: Any) -> None:
        run.output = {"answer": object()}
        with run.step("search") as step:
            step.cost_cents = -1
            raise Broken("first")

    with caplog.at_level(logging.ERROR, "ledger.audit"), pytest.raises(Broken) as raised:
        within(database_url, kind, block)

    assert len(raised.value.__notes__) == 2
    assert "<object object" in caplog.records[0].getMessage()
    assert ledger.audit.execution("run") is None


@pytest.mark.parametrize(
    "given, error, named",
    [
        ({"agent_id": None}, InvalidArgument, "agent_id"),
        ({"intent": ""}, InvalidRecord, "intent"),
        ({"input": {"a": {1}}}, InvalidRecord, "input.a"),
        ({"budget_cents": -1}, InvalidArgument, "budget_cents -1"),
        ({"parent_run_id": "run"}, InvalidRecord, "parent_run_id 'run'"),
    ],
)
def test_what_could_not_be_recorded_is_refused_before_anything_is_done(
    database_url: str, kind: Kind, given: dict[str, Any], error: type[Exception], named: str
) -> None:
    done: list[Any] = []

    with pytest.raises(error, match=named):
        within(database_url, kind, done.append, **given)

    assert done == []
