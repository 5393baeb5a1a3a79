"""Runs are found by their ids and page by page, in one order, whatever is recorded meanwhile."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from ledger import AsyncLedger, Ledger, Window
from ledger.errors import InvalidArgument, PermissionMissing, SchemaNotReady
from ledger.queries.execution_filters import cursor_of
from ledger.records.audit import ExecutionPage, ExecutionRecord
from tests.audits import ALICE, BOB, OTHER_PROJECT, PROJECT, audited, execution
from tests.databases import Databases, Target
from tests.ledgers import NOW, ledger_at
from tests.roles import roles_of
from tests.writers import Kind, sql

RUNS: Final = 240
A_MILLISECOND: Final = timedelta(milliseconds=1)
FIRST: Final = NOW - timedelta(days=1)
STATUSES: Final = (*["completed"] * 5, "failed", "aborted")
SOME: Final = Window(start=FIRST + 7 * A_MILLISECOND, end=FIRST + 31 * A_MILLISECOND)


def a_run(number: int) -> dict[str, Any]:
    """One of many: five of each millisecond, which are recorded in no order of time."""
    return execution(
        f"run-{number}",
        project_id=OTHER_PROJECT if number % 3 == 0 else PROJECT,
        user_id=BOB if number % 4 == 0 else ALICE,
        agent_id=f"agent-{number % 5 // 2}",
        status=STATUSES[number % 7],
        created_at=FIRST + number * 77 % RUNS // 5 * A_MILLISECOND,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A database with runs in it, and what a person would note of each."""

    url: str
    rows: list[dict[str, Any]]

    def newest_first(self, **values: object) -> list[str]:
        """The run_ids of those with these values; `window` is when they ended."""
        window = values.pop("window", None)
        found = [
            row
            for row in self.rows
            if values.items() <= row.items()
            and (not isinstance(window, Window) or window.start <= row["created_at"] < window.end)
        ]
        found.sort(key=lambda row: (row["created_at"], row["id"].bytes), reverse=True)
        return [row["run_id"] for row in found]


NOTED: Final = ("id", "run_id", "project_id", "user_id", "agent_id", "status", "created_at")


def noted(url: str) -> list[dict[str, Any]]:
    rows = sql(url, f"SELECT {', '.join(NOTED)} FROM ledger.execution_ledger")
    return [dict(zip(NOTED, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def stored(databases: Databases, target: Target) -> Iterator[Stored]:
    """Shared by tests that only read."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    with audited(url, *map(a_run, range(RUNS))):
        yield Stored(url=url, rows=noted(url))
    databases.drop(name)


Ask = Callable[..., ExecutionPage]


def of_project(ledger: Ledger, **asked: Any) -> ExecutionPage:
    return ledger.audit.executions_by_project(PROJECT, **asked)


def of_agent(ledger: Ledger, **asked: Any) -> ExecutionPage:
    return ledger.audit.executions_by_agent("agent-1", **asked)


def of_both(ledger: Ledger, **asked: Any) -> ExecutionPage:
    return ledger.audit.executions_by_agent("agent-1", str(PROJECT), **asked)


ASKING: Final[dict[str, tuple[Ask, dict[str, object]]]] = {
    "project": (of_project, {"project_id": PROJECT}),
    "agent": (of_agent, {"agent_id": "agent-1"}),
    "both": (of_both, {"agent_id": "agent-1", "project_id": PROJECT}),
}
asking = pytest.mark.parametrize("ask, of", ASKING.values(), ids=ASKING)
NARROWED: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"status": "completed"},
    {"status": "failed"},
    {"window": SOME},
    {"window": SOME, "status": "aborted"},
)


def ids(executions: tuple[ExecutionRecord, ...] | list[ExecutionRecord]) -> list[str]:
    return [each.run_id for each in executions]


def page_by_page(
    ask: Ask, ledger: Ledger, between: Callable[[], object] = lambda: None, **asked: Any
) -> list[str]:
    """The run_ids of all pages, by their cursors."""
    page = ask(ledger, **asked)
    found = ids(page.executions)
    while page.next_cursor is not None:
        between()
        page = ask(ledger, after=page.next_cursor, **asked)
        assert page.total is None
        found += ids(page.executions)
    return found


# --- one run ---


def test_a_run_is_given_as_it_was_recorded_to_the_digit(database_url: str, kind: Kind) -> None:
    exact = Decimal("0.1000000000000000000000000000000000001")
    sent = execution(
        input={"exact": exact, "great": 10**30, "text": "größer 漢字 🎉 \u200d", "none": None},
        output={"list": [1, Decimal("2.50"), {"deep": True}]},
        cost={"total": "123456789012.000000000001", "breakdown": {"tool_calls": "1.5", "gpu": 2}},
        trace={"duration_ms": 3, "steps": [{"action": "think", "cost_cents": "0.5"}]},
        status="failed",
        created_at=FIRST,
    )
    with audited(database_url, sent, kind=kind) as ledger:
        found = ledger.audit.execution("run")
        assert found is not None
        assert ledger.audit.record_execution(sent) == found
    assert (found.input["exact"], found.input["great"]) == (exact, 10**30)
    assert found.input["text"] == sent["input"]["text"]
    assert found.output == sent["output"]
    assert found.total_cost_cents == found.cost.total == Decimal("123456789012.000000000001")
    assert found.cost.breakdown.to_json() == {"toolCalls": Decimal("1.5"), "gpu": 2}
    assert found.trace.steps[0].cost_cents == Decimal("0.5")
    assert (found.created_at, found.status, found.parent_run_id) == (
        FIRST,
        "failed",
        "what triggered it",
    )
    assert found.recorded_at.tzinfo is UTC


def test_a_run_that_nobody_recorded_is_none(stored: Stored, kind: Kind) -> None:
    with ledger_at(stored.url, kind) as ledger:
        for run_id in ("run", "", "run-0'; --", "RUN-1", "%(run_id)s"):
            assert ledger.audit.execution(run_id) is None


def test_an_erased_run_is_listed_as_one(database_url: str, kind: Kind) -> None:
    with audited(database_url, execution(), kind=kind) as ledger:
        ledger.audit.erase_payload("run", "asked to")
        (found,) = ledger.audit.executions_by_project(PROJECT).executions
        assert found == ledger.audit.execution("run")
    assert (found.is_erased, found.input, found.total_cost_cents) == (True, {}, Decimal("1.5"))


# --- pages ---


@asking
@pytest.mark.parametrize("limit", [1, 7, 1_000])
def test_the_pages_of_a_question_are_the_whole_in_order(
    stored: Stored, kind: Kind, ask: Ask, of: dict[str, object], limit: int
) -> None:
    with ledger_at(stored.url, kind) as ledger:
        for narrowed in NARROWED if limit > 1 else NARROWED[2:]:
            expected = stored.newest_first(**of, **narrowed)
            assert expected
            assert page_by_page(ask, ledger, limit=limit, **narrowed) == expected


@asking
def test_pages_by_offset_are_the_same_and_say_how_many_there_are(
    stored: Stored, kind: Kind, ask: Ask, of: dict[str, object]
) -> None:
    with ledger_at(stored.url, kind) as ledger:
        for narrowed in NARROWED:
            expected = stored.newest_first(**of, **narrowed)
            for offset in (0, 1, 13, len(expected) - 1, len(expected), 2**63 - 1):
                page = ask(ledger, limit=13, offset=offset, **narrowed)
                assert ids(page.executions) == expected[offset : offset + 13]
                assert page.total == len(expected)
                assert (page.next_cursor is None) == (offset + 13 >= len(expected))


def test_a_full_last_page_is_the_last(stored: Stored) -> None:
    expected = stored.newest_first(project_id=PROJECT)
    with Ledger.connect(stored.url) as ledger:
        page = of_project(ledger, limit=len(expected))
        assert (ids(page.executions), page.next_cursor) == (expected, None)
        page = of_project(ledger, limit=len(expected) - 1)
        last = of_project(ledger, limit=1, after=page.next_cursor)
    assert (ids(last.executions), last.next_cursor) == (expected[-1:], None)


@asking
def test_where_nothing_matches_there_is_an_empty_page(
    database_url: str, kind: Kind, ask: Ask, of: dict[str, object]
) -> None:
    assert of
    nothing = ExecutionPage(executions=(), total=0, next_cursor=None)
    with ledger_at(database_url, kind) as ledger:
        assert ask(ledger) == ask(ledger, status="failed", offset=7) == nothing
        assert ask(ledger, window=Window(start=NOW, end=NOW)) == nothing
        assert ask(ledger, after=cursor_of(UUID(int=0))).total is None
        assert ledger.audit.failed_executions() == []


@asking
def test_what_is_recorded_between_two_pages_neither_repeats_a_run_nor_hides_one(
    database_url: str, kind: Kind, ask: Ask, of: dict[str, object]
) -> None:
    with audited(database_url, *map(a_run, range(60)), kind=kind) as ledger:
        stored = Stored(url=database_url, rows=noted(database_url))
        numbers = count()

        def record() -> None:
            # One newer than all, one in the midst of them.
            for created_at in (NOW, FIRST + 5 * A_MILLISECOND):
                new = {**a_run(1), "run_id": f"new-{next(numbers)}", "created_at": created_at}
                ledger.audit.record_execution({**new, "agent_id": "agent-1"})

        found = page_by_page(ask, ledger, record, limit=4)
    assert len(found) == len(set(found))
    assert [run_id for run_id in found if run_id.startswith("run-")] == stored.newest_first(**of)


def test_a_cursor_is_a_place_in_the_order_whatever_is_asked(stored: Stored) -> None:
    everything = [(row["created_at"], row["id"].bytes, row["run_id"]) for row in stored.rows]
    everything.sort(reverse=True)
    with Ledger.connect(stored.url) as ledger:
        page = of_agent(ledger, limit=11)
        place = ids(page.executions)[-1]
        older = [run_id for *_, run_id in everything]
        older = older[older.index(place) + 1 :]
        for window in (None, SOME):
            found = of_project(ledger, after=page.next_cursor, limit=1_000, window=window)
            expected = stored.newest_first(project_id=PROJECT, window=window)
            assert ids(found.executions) == [each for each in expected if each in older]


@pytest.mark.parametrize("place", [datetime(1970, 1, 1, tzinfo=UTC), SOME.start, SOME.end, NOW])
def test_a_cursor_outside_the_window_is_where_the_window_ends(
    stored: Stored, place: datetime
) -> None:
    milliseconds = (place - datetime(1970, 1, 1, tzinfo=UTC)) // A_MILLISECOND
    cursor = cursor_of(UUID(int=milliseconds << 80))
    with Ledger.connect(stored.url) as ledger:
        found = of_project(ledger, after=cursor, limit=1_000, window=SOME)
    expected = stored.newest_first(project_id=PROJECT, window=SOME) if place >= SOME.end else []
    assert ids(found.executions) == expected


def test_a_page_is_plain_values_for_json(stored: Stored, kind: Kind) -> None:
    with ledger_at(stored.url, kind) as ledger:
        page = of_project(ledger, limit=2)
    written = json.loads(json.dumps(page.to_dict()))
    assert written["executions"] == [each.to_dict() for each in page.executions]
    assert written["executions"][0]["cost"] == {"total": "1.5", "breakdown": {"tokens": "1.5"}}
    assert (written["total"], written["next_cursor"]) == (160, page.next_cursor)


# --- failures ---


def test_failed_and_aborted_runs_come_newest_first(stored: Stored, kind: Kind) -> None:
    everywhere = stored.newest_first()
    of_one = stored.newest_first(project_id=OTHER_PROJECT)
    bad = {row["run_id"] for row in stored.rows if row["status"] != "completed"}
    with ledger_at(stored.url, kind) as ledger:
        found = ledger.audit.failed_executions(limit=1_000)
        assert ids(found) == [each for each in everywhere if each in bad]
        assert {each.status for each in found} == {"failed", "aborted"}
        assert ledger.audit.failed_executions() == found[:50]
        there = ledger.audit.failed_executions(str(OTHER_PROJECT), limit=9)
        assert ids(there) == [each for each in of_one if each in bad][:9]
        assert ledger.audit.failed_executions(ALICE) == []


# --- arguments ---


def broken() -> Iterator[object]:
    """What is not a cursor, beside each cursor that is one character off."""
    cursor = cursor_of(UUID("018f4e2a-1234-7abc-8def-0123456789ab"))
    for place, character in enumerate(cursor):
        other = "A" if character != "A" else "B"
        yield cursor[:place] + other + cursor[place + 1 :]
    yield from ("", cursor[:-1], cursor + "=", cursor + cursor, f" {cursor}", f"{cursor}\n")
    yield from ("é" * 24, "\0", "018f4e2a-1234-7abc-8def-0123456789ab", cursor.encode(), 7, b"")
    yield urlsafe_b64encode(b"\xff" * 18).decode()
    yield cursor_of(UUID(int=2**128 - 1))  # a time that Python does not have


def test_a_broken_cursor_is_named(stored: Stored, kind: Kind) -> None:
    with ledger_at(stored.url, kind) as ledger:
        for cursor in broken():
            with pytest.raises(InvalidArgument) as raised:
                of_project(ledger, after=cursor)
            assert repr(cursor) in str(raised.value)
        everything = of_project(ledger, limit=1_000)
        for each in everything.executions:
            of_project(ledger, after=cursor_of(each.id))


WRONG: Final = (
    ({"limit": 0}, "limit 0"),
    ({"limit": 1_001}, "limit 1001"),
    ({"limit": True}, "limit True"),
    ({"limit": "50"}, "limit '50'"),
    ({"limit": None}, "limit None"),
    ({"offset": -1}, "offset -1"),
    ({"offset": 2**63}, "offset 9223372036854775808"),
    ({"offset": 1.0}, r"offset 1\.0"),
    ({"offset": None}, "offset None"),
    ({"offset": 1, "after": cursor_of(UUID(int=7))}, "offset 1 and after '"),
    ({"status": "success"}, "status 'success' is none of completed, failed, aborted"),
    ({"status": ["failed"]}, r"status \['failed'\]"),
    ({"window": "7D"}, "'7D' is not a Window"),
)


@pytest.mark.parametrize("named, wrong", WRONG)
def test_a_wrong_argument_is_named(
    stored: Stored, kind: Kind, named: dict[str, Any], wrong: str
) -> None:
    with ledger_at(stored.url, kind) as ledger:
        for ask in (of_project, of_agent, of_both):
            with pytest.raises(InvalidArgument, match=wrong):
                ask(ledger, **named)


NAMED: Final[tuple[tuple[str, tuple[Any, ...], str], ...]] = (
    ("execution", (None,), "run_id None"),
    ("execution", (7,), "run_id 7"),
    ("execution", ("a\0",), "run_id 'a"),
    ("executions_by_project", (None,), "project_id None"),
    ("executions_by_project", ("mine",), "project_id 'mine'"),
    ("executions_by_agent", (None,), "agent_id None"),
    ("executions_by_agent", ("\ud800",), "agent_id"),
    ("executions_by_agent", ("a", 7), "project_id 7"),
    ("failed_executions", ("mine",), "project_id 'mine'"),
    ("failed_executions", (None, 0), "limit 0"),
)


@pytest.mark.parametrize("name, named, wrong", NAMED)
def test_who_and_what_is_asked_about_is_checked_too(
    stored: Stored, kind: Kind, name: str, named: tuple[Any, ...], wrong: str
) -> None:
    with ledger_at(stored.url, kind) as ledger, pytest.raises(InvalidArgument, match=wrong):
        getattr(ledger.audit, name)(*named)


# --- connections and roles ---


def of_a_project_of_alices(audit: Any) -> tuple[Any, ...]:
    page = audit.executions_by_project(PROJECT, limit=5, window=SOME, status="failed")
    found = audit.execution("run-7"), audit.failed_executions(limit=3)
    return page, found


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_bound_ledger_reads_the_same_by_any_driver(stored: Stored, driver: str) -> None:
    with Ledger.connect(stored.url) as ledger:
        expected = of_a_project_of_alices(ledger.audit)
        page = of_project(ledger, limit=9)
        following = of_project(ledger, after=page.next_cursor)
    own = create_engine(
        make_url(stored.url).set(drivername=f"postgresql+{driver}"), poolclass=NullPool
    )
    with own.connect() as connection:
        bound = Ledger.bound(connection)
        assert of_a_project_of_alices(bound.audit) == expected
        assert of_project(bound, after=page.next_cursor) == following


def test_a_bound_ledger_reads_the_same_by_asyncpg(stored: Stored) -> None:
    with Ledger.connect(stored.url) as ledger:
        page = of_project(ledger, limit=9)
        following = of_project(ledger, after=page.next_cursor, window=SOME)
        found = ledger.audit.execution("run-7")

    async def read() -> None:
        url = make_url(stored.url)
        url = url.set(drivername="postgresql+asyncpg", port=None, query={"host": url.query["host"]})
        own = create_async_engine(url, poolclass=NullPool)
        async with own.connect() as connection:
            audit = AsyncLedger.bound(connection).audit
            assert await audit.executions_by_project(PROJECT, limit=9) == page
            after = page.next_cursor
            assert following == await audit.executions_by_project(PROJECT, after=after, window=SOME)
            assert await audit.execution("run-7") == found

    asyncio.run(read())


@pytest.mark.parametrize(
    "granted, of",
    [
        ("auditor", {}),
        ("service", {}),
        ("reader", {"user_id": ALICE}),
        ("auditor of projects", {"project_id": OTHER_PROJECT}),
    ],
)
def test_a_role_is_shown_what_its_scopes_say_and_counts_no_more(
    stored: Stored, kind: Kind, granted: str, of: dict[str, object]
) -> None:
    with roles_of(stored.url) as roles:
        role = roles.granted(
            granted.partition(" ")[0],
            [ALICE] if granted == "reader" else [],
            projects=[OTHER_PROJECT] if granted == "auditor of projects" else [],
        )
        with ledger_at(role.url, kind) as ledger:
            page = ledger.audit.executions_by_agent("agent-1", limit=1_000)
            expected = stored.newest_first(agent_id="agent-1", **of)
            assert (ids(page.executions), page.total) == (expected, len(expected))
            assert page_by_page(of_agent, ledger, limit=17) == expected
            visible = set(stored.newest_first(**of))
            for row in stored.rows[:12]:
                found = ledger.audit.execution(row["run_id"])
                assert (found is not None) == (row["run_id"] in visible)


def test_a_writer_may_not_read(stored: Stored, kind: Kind) -> None:
    with roles_of(stored.url) as roles, ledger_at(roles.granted("writer").url, kind) as ledger:
        for ask in (of_project, lambda ledger: ledger.audit.execution("run-7")):
            with pytest.raises(PermissionMissing):
                ask(ledger)


def test_a_database_without_the_schema_says_what_to_run(
    empty_database_url: str, kind: Kind
) -> None:
    with ledger_at(empty_database_url, kind) as ledger:
        for ask in (of_project, lambda ledger: ledger.audit.execution("run-7")):
            with pytest.raises(SchemaNotReady, match="ledger db upgrade"):
                ask(ledger)
