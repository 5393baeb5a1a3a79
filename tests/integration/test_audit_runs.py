"""A run is recorded when its block ends, however it ends, and nobody's exception is masked."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import UserDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker

from ledger import AsyncLedger, Ledger
from ledger.engine import async_engine, engine
from ledger.errors import (
    BudgetExceeded,
    ConflictingRecord,
    DatabaseUnavailable,
    InvalidArgument,
    InvalidRecord,
    UnknownPrice,
    UnknownReference,
)
from ledger.pricing.budget_rates import BudgetRates
from ledger.pricing.price import PriceList
from ledger.records.audit import ExecutionRecord
from ledger.repositories.audit_runs import AsyncRun, Run
from ledger.repositories.running import terms_of
from tests.audits import ALICE, PROJECT, STRANGER, introduce
from tests.ledgers import PRICE
from tests.roles import roles_of
from tests.writers import Kind, sql

WHO: dict[str, Any] = {
    "project_id": PROJECT,
    "user_id": ALICE,
    "agent_id": "backend",
    "intent": "Deploy the service.",
}
ASKED = {"run_id": "run", **WHO}


class Broken(Exception):
    """What a host's own code raises."""


class Speechless(Exception):
    """What cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


class Unreadable(UserDict[str, Any]):
    """A mapping that cannot be read."""

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError


@dataclass(frozen=True)
class Frozen(Exception):
    """What takes no notes."""


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    with Ledger.connect(database_url) as ledger:
        introduce(ledger)
        yield ledger


def within(
    url: str, kind: Kind, block: Callable[[Any], object], **given: Any
) -> ExecutionRecord | None:
    """Have the block done in a run, called or awaited, and give what was recorded of it."""
    asked = ASKED | given
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


def within_a_transaction(url: str, kind: Kind, block: Callable[[Any], object]) -> None:
    """Have the block done in a run that is bound to a host's transaction, which ends with it."""
    if kind == "called":
        own = engine(url)
        try:
            with own.begin() as connection:
                run: Run = Ledger.bound(connection).audit.execution(**ASKED)
                with run:
                    block(run)
        finally:
            own.dispose()
        return

    async def awaited() -> None:
        own = async_engine(url)
        try:
            async with own.begin() as connection:
                run: AsyncRun = AsyncLedger.bound(connection).audit.execution(**ASKED)
                async with run:
                    block(run)
        finally:
            await own.dispose()

    asyncio.run(awaited())


def logged(caplog: pytest.LogCaptureFixture) -> Any:
    """The run that was logged whole, to the digit."""
    (record,) = caplog.records
    return json.loads(record.getMessage().partition("it is: ")[2], parse_float=Decimal)


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


def test_a_run_over_its_budget_in_a_group_is_recorded_as_aborted(
    ledger: Ledger, database_url: str, kind: Kind
) -> None:
    def block(_: Any) -> None:
        over_budget = BudgetExceeded("run", Decimal(1), Decimal(2))
        raise ExceptionGroup("tasks", [Broken(), ExceptionGroup("more", [over_budget])])

    with pytest.raises(ExceptionGroup):
        within(database_url, kind, block)

    assert (recorded(ledger).status, recorded(ledger).error_message) == (
        "aborted",
        "Execution aborted: Budget exceeded. Allocated: $0.01, Spent: $0.02",
    )


@pytest.mark.parametrize("other, status", [(KeyboardInterrupt, "aborted"), (Broken, "failed")])
def test_a_group_is_aborted_where_all_of_it_is(
    ledger: Ledger, database_url: str, kind: Kind, other: type[BaseException], status: str
) -> None:
    def block(_: Any) -> None:
        raise BaseExceptionGroup("tasks", [asyncio.CancelledError(), other()])

    with pytest.raises(BaseExceptionGroup):
        within(database_url, kind, block)

    assert recorded(ledger).status == status


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


async def no_prices() -> None:
    """As of a ledger without a catalogue."""


async def once(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def again_and_again(task: asyncio.Task[None]) -> None:
    """As the cancel scopes of anyio do."""
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "cancel, status",
    [(once, "aborted"), (again_and_again, "aborted"), (again_and_again, "completed")],
    ids=["once", "again and again", "after its end"],
)
def test_a_task_that_is_cancelled_has_its_run_recorded(
    ledger: Ledger,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    cancel: Callable[[asyncio.Task[None]], Awaitable[None]],
    status: str,
) -> None:
    async def cancelled() -> None:
        async with AsyncLedger.connect(database_url) as awaited:

            async def agent() -> None:
                run: AsyncRun = awaited.audit.execution(**ASKED)
                async with run:
                    begun.set()
                    if status != "completed":  # by then its block had ended
                        await asyncio.Event().wait()

            begun = asyncio.Event()
            task = asyncio.create_task(agent())
            await begun.wait()
            await cancel(task)
            assert task.cancelled()

    asyncio.run(cancelled())

    assert recorded(ledger).status == status
    assert not caplog.records


def test_a_loop_that_shuts_down_lets_a_run_be_recorded(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []

    async def shut_down() -> None:
        async def record(ended: Any) -> Any:
            sent.append(ended)
            if len(sent) == 1:
                begun.set()
                await asyncio.Event().wait()
            return "its record"

        async def agent() -> None:
            async with AsyncRun(terms_of("run", WHO), no_prices, record, is_bound=False):
                pass

        begun = asyncio.Event()
        background = asyncio.create_task(agent())
        await begun.wait()
        assert not background.done()

    asyncio.run(shut_down())

    assert [run["status"] for run in sent] == ["completed", "completed"]
    assert not caplog.records


def test_a_cancellation_goes_on_where_recording_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def cancelled() -> None:
        async def fail(_: Any) -> ExecutionRecord:
            begun.set()
            await released.wait()
            raise DatabaseUnavailable("it is gone")

        async def agent() -> None:
            async with AsyncRun(terms_of("run", WHO), no_prices, fail, is_bound=False):
                pass

        begun, released = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(agent())
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        released.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())

    assert "could not be recorded (DatabaseUnavailable: it is gone)" in caplog.text


def test_what_was_asked_is_recorded_as_it_was_asked(ledger: Ledger) -> None:
    asked: dict[str, Any] = {"task": {"name": "deploy"}}
    with ledger.audit.execution(**ASKED, input=asked):
        asked["task"]["name"] = "something else"
        asked["client"] = object()

    assert recorded(ledger).input == {"task": {"name": "deploy"}}


def test_what_goes_on_after_its_run_is_refused_and_not_lost_silently(ledger: Ledger) -> None:
    with ledger.audit.execution(**ASKED) as run:
        run.budget.account_tool_call("search", 2)
        late = run.step("late")
        late.__enter__()
    with pytest.raises(InvalidArgument, match="tool_calls of 3 cents came after run 'run'"):
        run.budget.account_tool_call("search", 3)
    with pytest.raises(InvalidArgument, match="step 'late' ended after its run"):
        late.__exit__(None, None, None)

    assert run.budget.spent_cents == recorded(ledger).total_cost_cents == 2
    assert recorded(ledger).trace.tool_calls == 1


def test_a_session_of_a_task_records_its_run(ledger: Ledger, database_url: str) -> None:
    async def scoped() -> None:
        own = async_engine(database_url)
        session = async_scoped_session(async_sessionmaker(own), scopefunc=asyncio.current_task)
        run: AsyncRun = AsyncLedger.bound(session).audit.execution(**ASKED)
        async with run:
            pass
        await session.commit()
        await session.remove()
        await own.dispose()

    asyncio.run(scoped())

    assert recorded(ledger).status == "completed"


def test_tokens_are_priced_by_the_catalogue(ledger: Ledger, database_url: str, kind: Kind) -> None:
    ledger.tenancy.upsert_provider("openai")
    ledger.billing.add_prices([PRICE])

    record = within(
        database_url, kind, lambda run: run.budget.account_tokens(10_000, 15_000, model="gpt-4o")
    )

    assert record is not None
    assert record.total_cost_cents == Decimal("17.5"), "2.5 cents for input, 15 for output"


def test_a_price_that_was_added_is_there_for_the_next_run(
    ledger: Ledger, database_url: str, kind: Kind
) -> None:
    again = {**ASKED, "run_id": "next"}

    def account(run: Run | AsyncRun) -> None:
        run.budget.account_tokens(10_000, 15_000, model="gpt-4o")

    def add() -> None:
        ledger.tenancy.upsert_provider("openai")
        ledger.billing.add_prices([PRICE])

    def called() -> None:
        with Ledger.connect(database_url) as own:
            with pytest.raises(UnknownPrice), own.audit.execution(**ASKED) as run:
                account(run)
            add()
            with own.audit.execution(**again) as run:
                account(run)

    async def awaited() -> None:
        async with AsyncLedger.connect(database_url) as own:
            with pytest.raises(UnknownPrice):
                async with own.audit.execution(**ASKED) as run:
                    account(run)
            add()
            async with own.audit.execution(**again) as run:
                account(run)

    called() if kind == "called" else asyncio.run(awaited())

    found = ledger.audit.execution("next")
    assert found is not None
    assert found.total_cost_cents == Decimal("17.5")


@pytest.mark.parametrize("granted", ["writer", "service"])
def test_a_run_of_a_role_that_records_is_priced_by_the_catalogue(
    ledger: Ledger,
    database_url: str,
    kind: Kind,
    granted: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger.tenancy.upsert_provider("openai")
    ledger.billing.add_prices([PRICE])
    with roles_of(database_url) as roles:
        record = within(
            roles.granted(granted).url,
            kind,
            lambda run: run.budget.account_tokens(10_000, 15_000, model="gpt-4o"),
            rates=BudgetRates(input_cents_per_million=100, output_cents_per_million=200),
        )

    assert record is not None
    assert record.total_cost_cents == Decimal("17.5")
    assert not caplog.records


def test_a_price_that_a_transaction_took_back_prices_nothing(
    ledger: Ledger, database_url: str
) -> None:
    ledger.tenancy.upsert_provider("openai")
    own = engine(database_url)
    with own.begin() as connection:
        bound = Ledger.bound(connection)
        for run_id, price, cents in (
            ("first", PRICE, "17.5"),
            ("second", replace(PRICE, output_usd_per_million=Decimal(20)), "32.5"),
        ):
            with connection.begin_nested() as savepoint:
                bound.billing.add_prices([price])
                with bound.audit.execution(**{**ASKED, "run_id": run_id}) as run:
                    spent = run.budget.account_tokens(10_000, 15_000, model="gpt-4o")
                assert spent == Decimal(cents)
                savepoint.rollback()
    own.dispose()


def test_a_budget_of_another_run_is_named_by_its_run(ledger: Ledger) -> None:
    def nested() -> None:
        outer, inner = ({**ASKED, "run_id": run_id} for run_id in ("outer", "inner"))
        with (
            ledger.audit.execution(**outer),
            ledger.audit.execution(**inner, budget_cents=1) as run,
        ):
            run.budget.account_penalty(5, "late")
            run.budget.require()

    with pytest.raises(BudgetExceeded):
        nested()

    said = "Execution aborted: Budget exceeded. Allocated: $0.01, Spent: $0.05"
    found = {run_id: ledger.audit.execution(run_id) for run_id in ("outer", "inner")}
    assert {run_id: run and run.error_message for run_id, run in found.items()} == {
        "outer": f"{said} (run 'inner')",
        "inner": said,
    }
    assert {run and run.status for run in found.values()} == {"aborted"}


def test_a_run_goes_on_at_the_prices_known_where_they_cannot_be_read_anew(
    ledger: Ledger, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.tenancy.upsert_provider("openai")
    ledger.billing.add_prices([PRICE])
    with Ledger.connect(database_url) as own:
        with own.audit.execution(**ASKED):
            pass
        sql(database_url, "ALTER TABLE ledger.model_prices RENAME TO hidden")
        with own.audit.execution(**{**ASKED, "run_id": "next"}) as run:
            assert run.budget.account_tokens(10_000, 15_000, model="gpt-4o") == Decimal("17.5")

    assert "by the prices that were read before" in caplog.text


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

    whole = logged(caplog)
    assert (whole["run_id"], whole["output"]) == ("run", {"answer": 42})
    assert whole["status"] == ("failed" if fails else "completed")
    assert whole["cost"]["total"] == Decimal("1.25")
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


HOLDING_ITSELF: dict[str, Any] = {}
HOLDING_ITSELF |= {"itself": HOLDING_ITSELF, "again": HOLDING_ITSELF}


@pytest.mark.parametrize(
    "output, shown",
    [(HOLDING_ITSELF, "{'again': {'again': "), (Unreadable(answer=42), "{'answer': 42}")],
    ids=["holding itself", "unreadable"],
)
@pytest.mark.usefixtures("ledger")
def test_an_output_that_cannot_be_written_masks_nothing(
    database_url: str, kind: Kind, caplog: pytest.LogCaptureFixture, output: object, shown: str
) -> None:
    def block(run: Any) -> None:
        run.output = output
        raise Broken

    with pytest.raises(Broken):
        within(database_url, kind, block)

    assert logged(caplog)["output"].startswith(shown)


def test_an_error_that_cannot_be_told_is_recorded(
    ledger: Ledger, database_url: str, kind: Kind
) -> None:
    def block(run: Any) -> None:
        with run.step("search"):
            raise Speechless

    with pytest.raises(Speechless):
        within(database_url, kind, block)

    assert recorded(ledger).error_message == "Speechless()"
    assert recorded(ledger).trace.steps[0].error == "Speechless()"


def test_an_error_that_takes_no_notes_is_not_masked(
    database_url: str, kind: Kind, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    def block(run: Any) -> None:
        run.output = {"answer": object()}
        raise Frozen

    with pytest.raises(Frozen):
        within(database_url, kind, block)

    assert logged(caplog)["status"] == "failed"
    assert ledger.audit.execution("run") is None


def test_a_filter_of_logs_that_raises_masks_nothing(
    ledger: Ledger, database_url: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(record: logging.LogRecord) -> bool:
        raise RuntimeError(record)

    def block(run: Any) -> None:
        run.output = {"answer": object()}
        raise Broken

    monkeypatch.setattr(logging.getLogger("ledger.audit"), "filters", [refuse])
    with pytest.raises(Broken) as raised:
        within(database_url, kind, block)

    assert "could not be recorded" in raised.value.__notes__[0]
    assert ledger.audit.execution("run") is None


@pytest.mark.parametrize("result", [{"\ud800": 1}, Unreadable()], ids=["surrogate", "unreadable"])
def test_a_step_is_kept_without_what_cannot_be_kept_of_it(
    ledger: Ledger, database_url: str, kind: Kind, result: object
) -> None:
    def block(run: Any) -> None:
        with run.step("search", tool="web") as step:
            step.cost_cents = 5
            step.result = result
            raise Broken

    with pytest.raises(Broken) as raised:
        within(database_url, kind, block)

    (step,) = recorded(ledger).trace.steps
    assert (step.action, step.error, step.result) == ("search", "Broken: ", None)
    assert step.tool == "web"
    assert step.cost_cents == Decimal(5)
    assert "not all that was set of step 'search' is kept" in raised.value.__notes__[0]


@pytest.mark.parametrize(
    "bad",
    [
        {"result": {"at": datetime(2026, 1, 1, tzinfo=UTC)}},
        {"details": [1]},
        {"cost_cents": -1},
        {"tool": ""},
    ],
    ids=str,
)
@pytest.mark.parametrize("ends", ["caught", "raised"])
def test_a_step_of_which_something_cannot_be_kept_is_in_the_trace_and_says_so(
    ledger: Ledger, database_url: str, kind: Kind, bad: dict[str, Any], ends: str
) -> None:
    good = {"tool": "web", "cost_cents": 5, "result": [1], "details": {"a": 1}}

    def block(run: Any) -> None:
        caught = suppress(InvalidRecord) if ends == "caught" else nullcontext()
        with caught, run.step("search") as step:
            for name, value in {**good, **bad}.items():
                setattr(step, name, value)

    with nullcontext() if ends == "caught" else pytest.raises(InvalidRecord):
        within(database_url, kind, block)

    (step,) = recorded(ledger).trace.steps
    (name,) = bad
    kept = {other: getattr(step, other) for other in good}
    assert kept == {**good, name: None}
    assert step.error is not None
    assert step.error.startswith("InvalidRecord: ")


def test_a_step_that_is_refused_after_its_run_says_why_it_is(ledger: Ledger) -> None:
    with ledger.audit.execution(**ASKED) as run:
        step = run.step("search")
        step.__enter__().cost_cents = -1
    with pytest.raises(InvalidRecord, match="cost_cents -1") as raised:
        step.__exit__(None, None, None)
    assert "ended after its run" in raised.value.__notes__[0]


def test_a_tool_that_is_none_is_refused_before_the_step_is_taken(ledger: Ledger) -> None:
    taken = []
    with ledger.audit.execution(**ASKED) as run:
        for name in ("", "x" * 256):
            with pytest.raises(InvalidRecord, match="tool"), run.step("build", tool=name):
                taken.append(name)
    assert not taken


@pytest.mark.usefixtures("ledger")
def test_what_is_no_unicode_is_logged(database_url: str, kind: Kind, tmp_path: Path) -> None:
    def block(run: Any) -> None:
        run.output = {"\ud800": "käse \ud800"}

    handler = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    logging.getLogger("ledger.audit").addHandler(handler)
    with pytest.raises(ValueError, match="surrogate"):
        within(database_url, kind, block)
    logging.getLogger("ledger.audit").removeHandler(handler)
    handler.close()

    _, _, whole = (tmp_path / "log").read_text(encoding="utf-8").partition("it is: ")
    assert json.loads(whole)["output"] == {"\ud800": "käse \ud800"}


def test_a_run_that_was_logged_can_be_recorded_as_it_was(
    ledger: Ledger, database_url: str, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    output = {"n": Decimal("1.50"), "large": Decimal("1E+20"), "f": 0.1, "all": [1, None, "ä"]}
    ended: list[datetime] = []

    def block(run: Any) -> None:
        with run.step("search") as step:
            step.cost_cents = run.budget.account_penalty("0.100000000001")
            step.result = [Decimal("2.50")]
        run.output = output
        sql(database_url, "DELETE FROM ledger.projects")
        ended.append(datetime.now(UTC))

    with pytest.raises(UnknownReference):
        within(database_url, kind, block, parent_run_id="parent")
    introduce(ledger)
    record = ledger.audit.record_execution(logged(caplog))

    assert record.output is not None
    assert {name: str(value) for name, value in record.output.items()} == {
        **{name: str(value) for name, value in output.items()},
        "large": "100000000000000000000",
    }
    assert (record.status, record.parent_run_id) == ("completed", "parent")
    assert record.total_cost_cents == Decimal("0.100000000001")
    (step,) = record.trace.steps
    assert (step.cost_cents, str(step.result[0])) == (record.total_cost_cents, "2.50")
    assert abs(record.created_at - ended[0]).total_seconds() < 5
    assert record.created_at < record.recorded_at


@pytest.mark.usefixtures("ledger")
def test_what_json_does_not_hold_is_logged_as_text(
    database_url: str, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    def block(run: Any) -> None:
        run.output = {"nan": float("nan"), "infinite": Decimal("Infinity"), "id": PROJECT, 1: {2}}

    with pytest.raises(InvalidRecord):
        within(database_url, kind, block)

    assert logged(caplog)["output"] == {
        "nan": "nan",
        "infinite": "Infinity",
        "id": str(PROJECT),
        "1": "{2}",
    }


def test_a_bound_run_that_raises_is_logged_whole(
    ledger: Ledger, database_url: str, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    def block(run: Any) -> None:
        run.output = {"answer": 42}
        raise Broken("as it was")

    with pytest.raises(Broken) as raised:
        within_a_transaction(database_url, kind, block)

    assert ledger.audit.execution("run") is None
    assert "is lost if" in raised.value.__notes__[0]
    assert ledger.audit.record_execution(logged(caplog)) == recorded(ledger)
    assert (recorded(ledger).status, recorded(ledger).output) == ("failed", {"answer": 42})


def test_a_bound_run_that_ends_well_is_not_logged(
    ledger: Ledger, database_url: str, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    within_a_transaction(database_url, kind, lambda _: None)

    assert recorded(ledger).status == "completed"
    assert not caplog.records


def test_a_run_has_a_budget_once_it_is_entered(database_url: str) -> None:
    with Ledger.connect(database_url) as ledger:
        run: Run = ledger.audit.execution(**ASKED)
        with pytest.raises(InvalidArgument, match="enter it"):
            _ = run.budget


def test_a_run_is_entered_once(ledger: Ledger, database_url: str, kind: Kind) -> None:
    def block(run: Any) -> None:
        enter = run.__enter__ if kind == "called" else lambda: run.__aenter__().send(None)
        with pytest.raises(InvalidArgument, match="'run' has begun before"):
            enter()

    within(database_url, kind, block, prices=PriceList([]))

    assert recorded(ledger).status == "completed"


@pytest.mark.parametrize(
    "given, error",
    [
        ({"user_id": STRANGER}, UnknownReference),
        ({"project_id": STRANGER}, UnknownReference),
        ({"intent": "Another."}, ConflictingRecord),
    ],
)
@pytest.mark.usefixtures("ledger")
def test_what_only_the_database_can_tell_is_raised_at_the_end(
    database_url: str, kind: Kind, given: dict[str, Any], error: type[Exception]
) -> None:
    done: list[Any] = []
    within(database_url, kind, lambda _: None)

    with pytest.raises(error):
        within(database_url, kind, done.append, **given)

    assert len(done) == 1


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
