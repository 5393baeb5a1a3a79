"""What tools and actions cost is what the steps say, and the rest is named: nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest

from ledger import InvalidArgument, Ledger, Window
from ledger.records.execution_costs import StepCosts, ToolCosts
from ledger.records.identity import derived_id
from tests.audits import ALICE, BOB, OTHER_PROJECT, PROJECT, audited, execution
from tests.databases import Databases, Target
from tests.ledgers import ledger_at
from tests.plans import explained_read
from tests.roles import roles_of
from tests.sent import sent_by_reads
from tests.writers import Kind, sql, stop_jobs, superuser

END = datetime(2026, 3, 8, 12, 30, tzinfo=UTC)
ALL = Window(start=END - timedelta(days=400), end=END + timedelta(days=1))
WINDOWS = {
    "all": ALL,
    "some": Window(start=END - timedelta(days=4, hours=3), end=END - timedelta(days=1)),
    "nothing": Window(start=END - timedelta(days=90), end=END - timedelta(days=80)),
    "no length": Window(start=END - timedelta(days=2), end=END - timedelta(days=2)),
}
FILTERS: dict[str, dict[str, Any]] = {
    "everybody": {},
    "project": {"project_id": PROJECT},
    "agent": {"agent_id": "backend"},
    "both": {"project_id": OTHER_PROJECT, "agent_id": "frontend"},
    "nobody": {"agent_id": "nobody"},
}
MOST = Decimal("999999999999.999999999999")

Costs = ToolCosts | StepCosts


def run(run_id: str, *steps: dict[str, Any], total: Any = 10, **what_matters: Any) -> Any:
    """A run of an hour before the end, with these steps."""
    return execution(
        run_id,
        cost={"total": total},
        **{
            "trace": {"duration_ms": 900, "steps": steps},
            "created_at": END - timedelta(hours=1),
            **what_matters,
        },
    )


def random_runs() -> Iterator[dict[str, Any]]:
    chance = Random(11)
    for number in range(300):
        steps = [
            {
                "action": chance.choice(["search", "Search", "éditer", "call"]),
                "tool": chance.choice([None, "browser", "shell", "Zip", "ärger"]),
                "cost_cents": chance.choice([None, Decimal(chance.randrange(10**15)) / 10**12]),
                "duration_ms": chance.choice([None, chance.randrange(10**6)]),
                "error": chance.choice([None, None, "It broke."]),
            }
            for _ in range(chance.choice([0, 1, 1, 2, 5]))
        ]
        yield run(
            f"run {number}",
            *steps,
            total=Decimal(chance.randrange(10**15)) / 10**12,
            project_id=chance.choice([PROJECT, OTHER_PROJECT]),
            user_id=chance.choice([ALICE, BOB]),
            agent_id=chance.choice(["backend", "frontend"]),
            created_at=END - timedelta(seconds=chance.randrange(6 * 86_400)),
        )


RUNS = list(random_runs())


def wanted(
    by: str, runs: Sequence[dict[str, Any]], limit: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The sums by name, the dearest first, and those of all, in the most naive way."""
    steps = [(each["run_id"], step) for each in runs for step in each["trace"]["steps"]]
    sums = []
    for name in {step[by] for _, step in steps}:
        own = [(of, step) for of, step in steps if step[by] == name]
        sums.append(
            {
                by: name,
                "runs": len({of for of, _ in own}),
                "calls": len(own),
                "cost_cents": sum(Fraction(step["cost_cents"] or 0) for _, step in own),
                "duration_ms": sum(step["duration_ms"] or 0 for _, step in own),
                "failures": sum(step["error"] is not None for _, step in own),
            }
        )
    listed = sorted(
        (each for each in sums if each[by] is not None),
        key=lambda each: (-each["cost_cents"], -each["calls"], each[by]),
    )
    total = sum(Fraction(each["cost"]["total"]) for each in runs)
    whole = {
        "runs": len(runs),
        "total_cents": total,
        "beyond_limit_cents": sum(each["cost_cents"] for each in listed[limit:]),
        "without_tool_cents": sum(each["cost_cents"] for each in sums if each[by] is None),
        "unattributed_cents": total - sum(each["cost_cents"] for each in sums),
    }
    return listed[:limit], whole


def values_of(record: Any) -> dict[str, Any]:
    """The fields of a record, money as fractions."""
    named = ((name, getattr(record, name)) for name in record.__dataclass_fields__)
    return {name: Fraction(value) if isinstance(value, Decimal) else value for name, value in named}


def added_up(costs: Costs) -> Fraction:
    """What the docstrings say is the whole."""
    parts = [costs.beyond_limit_cents, costs.unattributed_cents]
    if isinstance(costs, ToolCosts):
        parts += [costs.without_tool_cents, *(each.cost_cents for each in costs.tools)]
    else:
        parts += [each.cost_cents for each in costs.steps]
    return sum((Fraction(part) for part in parts), Fraction(0))


@pytest.fixture(scope="module")
def filled_url(databases: Databases, target: Target) -> Iterator[str]:
    """Some hundred runs; tests only read them."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    stop_jobs(url)
    with audited(url, *RUNS):
        sql(url, "VACUUM ANALYZE ledger.execution_ledger")
    yield url
    databases.drop(name)


@pytest.mark.parametrize("held", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_costs_are_what_the_steps_say(ledger: Ledger, window: Window, held: dict[str, Any]) -> None:
    runs = [
        each
        for each in RUNS
        if window.start <= each["created_at"] < window.end
        and all(each[name] == value for name, value in held.items())
    ]
    for limit in (1, 3, 100):
        tools = ledger.audit.tool_costs(window, limit=limit, **held)
        steps = ledger.audit.step_costs(window, limit=limit, **held)
        assert_costs(tools, tools.tools, *wanted("tool", runs, limit))
        assert_costs(steps, steps.steps, *wanted("action", runs, limit))
        assert tools.window == steps.window == window
        assert tools.unattributed_cents == steps.unattributed_cents


def assert_costs(
    costs: Costs, parts: Sequence[Any], listed: list[dict[str, Any]], whole: dict[str, Any]
) -> None:
    """They are these, and add up."""
    assert [values_of(each) for each in parts] == listed
    told = values_of(costs)
    assert {**told, **whole} == {**whole, **told}
    assert added_up(costs) == Fraction(costs.total_cents)


def test_without_runs_everything_is_zero(empty: Ledger) -> None:
    tools, steps = empty.audit.tool_costs(ALL), empty.audit.step_costs(ALL)
    assert (tools.tools, steps.steps) == ((), ())
    assert tools.runs == steps.runs == 0
    assert added_up(tools) == added_up(steps) == 0
    assert tools.to_dict()["unattributed_cents"] == "0"


def test_a_run_without_steps_is_unattributed(empty: Ledger) -> None:
    empty.audit.record_execution(run("only", total="2.5"))
    tools = empty.audit.tool_costs(ALL)
    assert (tools.runs, tools.tools, tools.unattributed_cents) == (1, (), Decimal("2.5"))


def test_an_erased_run_is_unattributed(empty: Ledger) -> None:
    step = {"action": "search", "tool": "browser", "cost_cents": 4}
    empty.audit.record_executions([run("kept", step), run("erased", step)])
    empty.audit.erase_payload("erased", "a request")
    tools = empty.audit.tool_costs(ALL)
    assert [(each.tool, each.runs, int(each.cost_cents)) for each in tools.tools] == [
        ("browser", 1, 4)
    ]
    assert (tools.runs, tools.total_cents, tools.unattributed_cents) == (
        2,
        Decimal(20),
        Decimal(16),
    )


def test_steps_that_say_more_than_their_run_cost_leave_less_than_nothing(empty: Ledger) -> None:
    empty.audit.record_execution(run("a", {"action": "search", "cost_cents": 7}, total=5))
    steps = empty.audit.step_costs(ALL)
    assert steps.unattributed_cents == -2
    assert added_up(steps) == 5


def test_a_step_that_says_nothing_is_a_call(empty: Ledger) -> None:
    empty.audit.record_execution(run("a", {"action": "search", "tool": "browser"}))
    (tool,) = empty.audit.tool_costs(ALL).tools
    assert (tool.runs, tool.calls, tool.failures, tool.duration_ms) == (1, 1, 0, 0)
    assert tool.cost_cents == 0


def test_equals_come_by_their_calls_and_then_by_name_as_python_sorts(empty: Ledger) -> None:
    names = ["b", "ä", "Z", "a", "B"]
    steps = [{"action": name, "cost_cents": 0} for name in [*names, "often", "often"]]
    empty.audit.record_execution(run("a", *steps))
    found = [step.action for step in empty.audit.step_costs(ALL).steps]
    assert found == ["often", *sorted(names)]


def test_costs_are_exact_however_great(empty: Ledger) -> None:
    step = {"action": "search", "tool": "t", "cost_cents": MOST, "duration_ms": 2**63 - 1}
    empty.audit.record_executions(run(f"{n}", *[step] * 5, total=MOST) for n in range(20))
    tools = empty.audit.tool_costs(ALL)
    (tool,) = tools.tools
    assert tool.cost_cents == Decimal("99999999999999.999999999900")
    assert tool.duration_ms == 100 * (2**63 - 1)
    assert tools.unattributed_cents == Decimal("-79999999999999.999999999920")


STRANGE = {
    "no steps": {},
    "steps null": {"steps": None},
    "steps a number": {"steps": 7},
    "steps an object": {"steps": {"action": "search", "cost_cents": 1}},
    "steps of anything": {"steps": [None, 1, "search", [], [{"action": "search"}], True]},
    "a step without action": {"steps": [{"tool": "browser", "cost_cents": 1}]},
    "an action that is no text": {"steps": [{"action": 7, "tool": "browser", "cost_cents": 1}]},
}
"""Traces in which there is no step."""


def append(url: str, run_id: str, trace: dict[str, Any]) -> None:
    """Put a run into the ledger as who may append can, and this package does not."""
    milliseconds = int(END.timestamp() * 1000) - 3_600_000
    row = {
        "id": str(derived_id(milliseconds, PROJECT, run_id)),
        "run_id": run_id,
        "project_id": str(PROJECT),
        "user_id": str(ALICE),
        "agent_id": "backend",
        "intent": "Break it.",
        "input": {},
        "cost_json": {"total": 3},
        "execution_trace_json": {"duration_ms": 1, **trace},
        "status": "completed",
        "created_at": (END - timedelta(hours=1)).isoformat(),
    }
    written = json.dumps([row]).replace('"giant"', "1" + "0" * 100_000)
    with superuser(url) as connection:
        connection.execute("SELECT ledger.append_executions(%s, %s)", [[PROJECT], written])


@pytest.mark.parametrize("trace", STRANGE.values(), ids=STRANGE)
def test_strange_traces_are_unattributed(
    database_url: str, empty: Ledger, trace: dict[str, Any]
) -> None:
    append(database_url, "strange", trace)
    tools, steps = empty.audit.tool_costs(ALL), empty.audit.step_costs(ALL)
    assert (tools.tools, steps.steps) == ((), ())
    assert tools.unattributed_cents == steps.unattributed_cents == 3


@pytest.mark.parametrize("name", ["cost_cents", "duration_ms"])
def test_strange_numbers_are_none(database_url: str, empty: Ledger, name: str) -> None:
    strange: list[Any] = ["1", "NaN", None, True, [], {}, -1, 10**19, "giant"]
    steps = [{"action": "search", name: value} for value in [*strange, 2]]
    append(database_url, "strange", {"steps": steps})
    (step,) = empty.audit.step_costs(ALL).steps
    assert step.calls == len(steps)
    assert getattr(step, name) == 2


def test_strange_tools_and_errors_are_what_they_can_be(database_url: str, empty: Ledger) -> None:
    steps = [
        {"action": "search", "tool": 7, "cost_cents": 0.25, "error": None},
        {"action": "search", "tool": "browser", "duration_ms": 1.75, "error": {"code": 7}},
        {"action": "search", "tool": "", "error": ""},
    ]
    append(database_url, "strange", {"steps": steps})
    tools = empty.audit.tool_costs(ALL)
    told = [(each.tool, each.calls, each.duration_ms, each.failures) for each in tools.tools]
    assert told == [("", 1, 0, 1), ("browser", 1, 1, 1)]
    assert tools.without_tool_cents == Decimal("0.25")


def test_an_interval_ends_at_a_moment_and_without_it(empty: Ledger) -> None:
    step = {"action": "search", "cost_cents": 1}
    for hour in (0, 1, 24, 25):
        at = END - timedelta(hours=hour)
        empty.audit.record_execution(run(f"at {hour}", step, created_at=at))
    assert empty.audit.step_costs("1D", at=END).runs == 2
    assert empty.audit.tool_costs("1h", at=END).runs == 1
    assert empty.audit.tool_costs("7D").runs == 0


def test_a_reader_is_told_of_his_own_runs(filled_url: str, kind: Kind) -> None:
    with roles_of(filled_url) as roles:
        reader = roles.granted("reader", [ALICE])
        with ledger_at(reader.url, kind) as ledger:
            found = ledger.audit.tool_costs(ALL)
    own = [each for each in RUNS if each["user_id"] == ALICE]
    listed, whole = wanted("tool", own, 100)
    assert [values_of(each) for each in found.tools] == listed
    assert found.runs == whole["runs"]
    assert Fraction(found.unattributed_cents) == whole["unattributed_cents"]


@pytest.mark.parametrize(
    "index, held",
    [
        ("idx_execution_ledger_costs", {}),
        ("idx_execution_ledger_costs", {"agent_id": "backend"}),
        ("idx_execution_ledger_project", {"project_id": PROJECT}),
    ],
    ids=["everybody", "agent", "project"],
)
def test_a_window_is_found_by_an_index(filled_url: str, index: str, held: dict[str, Any]) -> None:
    """And not among all runs of all years."""
    hour = Window(start=END - timedelta(hours=2), end=END - timedelta(hours=1))
    with ledger_at(filled_url) as ledger, sent_by_reads() as sent:
        ledger.audit.tool_costs(hour, **held)
    with superuser(filled_url) as connection:
        plan = explained_read(connection, sent[-1])
    assert index in plan.indexes, str(plan)
    assert "execution_ledger" not in plan.read_in_full, str(plan)
    assert len(sent) == 2  # the first asks for the context


@pytest.mark.parametrize(
    "ask",
    [lambda ledger: ledger.audit.tool_costs, lambda ledger: ledger.audit.step_costs],
    ids=["tools", "steps"],
)
@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"window": "2W"}, "'2W' is not an interval; use one of 15M"),
        ({"window": None}, "None is neither an Interval, nor its name, nor a Window"),
        ({"window": ALL, "at": END}, "a Window ends where it says; leave `at` out"),
        ({"at": datetime(2026, 1, 1)}, "has no time zone; pass an aware datetime"),  # noqa: DTZ001
        ({"project_id": "mine"}, "project_id 'mine' is not a UUID"),
        ({"agent_id": 7}, "agent_id 7 is not a str"),
        ({"agent_id": "a\0b"}, "holds a character that no text can"),
        ({"limit": 0}, "limit 0 is not a whole number of at least 1"),
        ({"limit": True}, "limit True is not a whole number"),
        ({"limit": None}, "limit None is not a whole number"),
        ({"limit": 2**63}, f"limit {2**63} is not a whole number"),
        ({"limit": 10**5_000}, "limit <int> is not a whole number"),
    ],
)
def test_a_wrong_argument_is_named(
    filled_url: str,
    ask: Callable[[Ledger], Callable[..., object]],
    wrong: dict[str, Any],
    words: str,
) -> None:
    with ledger_at(filled_url) as ledger, pytest.raises(InvalidArgument, match=words):
        ask(ledger)(**{"window": "1D", **wrong})
