"""An anomaly is a run far from what was usual for its agent before, by the formula that is told."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from statistics import mean, median
from typing import Any, NamedTuple

import pytest
from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from ledger import AsyncLedger, InvalidArgument, Ledger, Window
from ledger.records.allocation import AllocationRule
from ledger.records.execution_costs import Anomaly
from tests.audits import ALICE, BOB, OTHER_PROJECT, PROJECT, audited, execution
from tests.databases import Databases, Target
from tests.ledgers import ledger_at
from tests.plans import explained_read
from tests.roles import roles_of
from tests.sent import sent_by_reads
from tests.writers import Kind, sql, stop_jobs, superuser

START = datetime(2026, 3, 8, 12, 30, tzinfo=UTC)
DAY = Window(start=START, end=START + timedelta(days=1))
HOUR = timedelta(hours=1)
MOST = Decimal("999999999999.999999999999")

FILTERS: dict[str, dict[str, Any]] = {
    "everybody": {},
    "project": {"project_id": PROJECT},
    "agent": {"agent_id": "steady"},
    "both": {"project_id": OTHER_PROJECT, "agent_id": "often alike"},
    "nobody": {"agent_id": "nobody"},
}


def run(run_id: str, cents: Any = 1, milliseconds: int = 900, **what_matters: Any) -> Any:
    """A run of the agent "steady", an hour after the window's start."""
    return execution(
        run_id,
        cost={"total": cents},
        trace={"duration_ms": milliseconds},
        **{"agent_id": "steady", "created_at": START + HOUR, **what_matters},
    )


def past(*cents: Any, **what_matters: Any) -> Iterator[Any]:
    """A run for each of these costs, in the hours before the window."""
    for number, each in enumerate(cents, 1):
        at = START - number * HOUR
        yield run(f"past {number} {at}", each, created_at=at, **what_matters)


def random_runs() -> Iterator[dict[str, Any]]:
    """Of agents that vary, are often alike, are always alike, and are new."""
    chance = Random(13)
    seconds = chance.sample(range(-40 * 86_400, 86_400), 600)
    for number, second in enumerate(seconds):
        agent = chance.choice(["steady", "often alike", "always alike", "Ärger"])
        is_alike = agent == "always alike" or (agent == "often alike" and chance.random() < 0.7)
        is_odd = second >= 0 and chance.random() < 0.2
        cents = Decimal("2.5") if is_alike else Decimal(chance.randrange(1, 10**13)) / 10**12
        yield run(
            f"run {number}",
            cents * (chance.choice([0, 7, 100]) if is_odd else 1),
            (1_000 if is_alike else chance.randrange(1, 5_000)) * (30 if is_odd else 1),
            agent_id=agent,
            project_id=chance.choice([PROJECT, OTHER_PROJECT]),
            user_id=chance.choice([ALICE, BOB]),
            created_at=START + timedelta(seconds=second),
            status=chance.choice(["completed", "failed", "aborted"]),
        )
    for number in range(12):
        yield run(f"new {number}", number, created_at=START - number * HOUR, agent_id="new")


RUNS = list(random_runs())


class Wanted(NamedTuple):
    """An anomaly by exact fractions; without a score, infinite."""

    run_id: str
    measure: str
    value: Fraction
    median: Fraction
    deviation: Fraction
    score: Fraction | None


def wanted(  # noqa: PLR0913, PLR0917 - what is asked
    runs: list[dict[str, Any]],
    window: Window,
    threshold: float,
    history: timedelta,
    least: int,
    limit: int,
) -> list[Wanted]:
    """The same by the definition, run by run."""
    found = []
    for each in runs:
        if not window.start <= each["created_at"] < window.end:
            continue
        before = [
            other
            for other in runs
            if other["agent_id"] == each["agent_id"]
            and window.start - history <= other["created_at"] < window.start
        ]
        if len(before) < least:
            continue
        for measure in ("cost", "duration"):
            value, middle = of(each, measure), median(of(other, measure) for other in before)
            distances = [abs(of(other, measure) - middle) for other in before]
            deviation = median(distances) / Fraction("0.6745") or (
                mean(distances) * Fraction("1.253314")
            )
            score = (value - middle) / deviation if deviation else None
            if value != middle and (score is None or abs(score) > threshold):
                found.append(Wanted(each["run_id"], measure, value, middle, deviation, score))
    at = {each["run_id"]: each["created_at"] for each in runs}
    found.sort(
        key=lambda each: (
            -math.inf if each.score is None else -abs(each.score),
            at[each.run_id],
            each.measure,
        )
    )
    return found[:limit]


def of(each: dict[str, Any], measure: str) -> Fraction:
    value = each["cost"]["total"] if measure == "cost" else each["trace"]["duration_ms"]
    return Fraction(value)


def assert_same(found: list[Anomaly], expected: list[Wanted]) -> None:
    """The same, in the same order, as far as floating point goes."""
    assert [(each.run_id, each.measure) for each in found] == [
        (each.run_id, each.measure) for each in expected
    ]
    for told, exact in zip(found, expected, strict=True):
        assert Fraction(told.value) == exact.value
        assert math.isclose(told.median, exact.median, rel_tol=1e-12)
        assert math.isclose(told.deviation, exact.deviation, rel_tol=1e-12)
        if exact.score is None:
            assert told.score is None
        else:
            assert told.score is not None
            assert math.isclose(told.score, exact.score, rel_tol=1e-9)


@pytest.fixture(scope="module")
def filled_url(databases: Databases, target: Target) -> Iterator[str]:
    """Some hundred runs of forty days; tests only read them."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    stop_jobs(url)
    with audited(url, *RUNS):
        sql(url, "VACUUM ANALYZE ledger.execution_ledger")
    yield url
    databases.drop(name)


def scores(ledger: Ledger, **how: Any) -> dict[tuple[str, str], float | None]:
    found = ledger.audit.anomalies(DAY, **how)
    return {(each.run_id, each.measure): each.score for each in found}


@pytest.mark.parametrize("held", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"threshold": 0.5, "least": 1},
        {"threshold": Decimal("2.25"), "history": timedelta(days=3), "least": 5},
        {"threshold": 1, "history": timedelta(days=1_000), "limit": 3},
        {"least": 10**6},
    ],
    ids=str,
)
def test_anomalies_are_those_of_the_formula(
    ledger: Ledger, held: dict[str, Any], how: dict[str, Any]
) -> None:
    runs = [each for each in RUNS if all(each[name] == value for name, value in held.items())]
    asked = {"threshold": 3.5, "history": timedelta(days=30), "least": 20, "limit": 100, **how}
    for window in (DAY, Window(start=START - timedelta(days=7), end=START)):
        found = ledger.audit.anomalies(window, **held, **how)
        assert_same(found, wanted(runs, window, **asked))


def test_an_anomaly_says_whose_it_is(empty: Ledger) -> None:
    empty.audit.record_executions([*past(*range(20)), run("odd", 1_000)])
    (found,) = empty.audit.anomalies(DAY)
    assert found == Anomaly(
        run_id="odd",
        agent_id="steady",
        project_id=PROJECT,
        created_at=START + HOUR,
        measure="cost",
        value=Decimal(1_000),
        median=9.5,
        deviation=5 / 0.6745,
        score=found.score,
    )
    assert found.score == pytest.approx(0.6745 * (1_000 - 9.5) / 5)


def test_without_a_history_nothing_is_an_anomaly(empty: Ledger) -> None:
    assert empty.audit.anomalies(DAY) == []
    empty.audit.record_execution(run("only", 10**6))
    assert empty.audit.anomalies(DAY, least=1) == []


def test_a_history_of_one_run_is_enough_if_one_says_so(empty: Ledger) -> None:
    empty.audit.record_executions([*past(1), run("odd", 2)])
    assert scores(empty, least=1) == {("odd", "cost"): None}
    assert scores(empty, least=2) == {}


def test_a_history_has_as_many_runs_as_one_says(empty: Ledger) -> None:
    empty.audit.record_executions([*past(*range(20)), run("odd", 1_000)])
    assert scores(empty, least=20)
    assert not scores(empty, least=21)


def test_where_all_were_alike_every_other_is_infinitely_odd(empty: Ledger) -> None:
    empty.audit.record_executions(
        [
            *past(*["0.3"] * 20),
            run("same", "0.3"),
            run("a hair more", "0.300000000001"),
            run("a hair longer", "0.3", 901),
        ]
    )
    assert scores(empty, threshold=10**9) == {
        ("a hair more", "cost"): None,
        ("a hair longer", "duration"): None,
    }


def test_where_most_were_alike_the_mean_deviation_tells(empty: Ledger) -> None:
    empty.audit.record_executions([*past(*[1] * 15, *[2] * 5), run("odd", 3), run("less", "0.5")])
    spread = 1.253314 * 5 / 20
    assert scores(empty, threshold=1) == {
        ("odd", "cost"): pytest.approx(2 / spread),
        ("less", "cost"): pytest.approx(-0.5 / spread),
    }


def test_too_little_is_as_odd_as_too_much(empty: Ledger) -> None:
    history = past(*(1_000 + number for number in range(21)))
    empty.audit.record_executions([*history, run("free", 0), run("dear", 2_020)])
    found = scores(empty)
    assert found["free", "cost"] == -found["dear", "cost"]  # type: ignore[operator]
    assert len(found) == 2


def test_a_score_at_the_threshold_is_none_yet(empty: Ledger) -> None:
    empty.audit.record_executions([*past(*[0] * 10, *[8] * 10), run("odd", 20)])
    (score,) = scores(empty, threshold=1).values()
    assert score is not None
    assert scores(empty, threshold=score) == {}
    assert scores(empty, threshold=math.nextafter(score, 0))


def test_the_history_ends_where_the_window_starts_and_each_has_its_start(empty: Ledger) -> None:
    millisecond, day = timedelta(milliseconds=1), timedelta(days=1)
    empty.audit.record_executions(
        [
            run("too old", 10**6, created_at=START - day - millisecond),
            run("oldest", 1, created_at=START - day),
            run("latest", 1, created_at=START - millisecond),
            run("first of the window", 5, created_at=DAY.start),
            run("last of the window", 5, created_at=DAY.end - millisecond),
            run("too late", 5, created_at=DAY.end),
        ]
    )
    assert scores(empty, history=day, least=2) == {
        ("first of the window", "cost"): None,
        ("last of the window", "cost"): None,
    }
    assert scores(empty, history=day, least=3, threshold=1e-9) == {}
    assert scores(empty, history=day + millisecond, least=3, threshold=1e-9)


def test_each_agent_has_a_history_of_its_own(empty: Ledger) -> None:
    empty.audit.record_executions(
        [
            *past(*[1] * 20, agent_id="cheap"),
            *past(*[9] * 20, agent_id="dear", project_id=OTHER_PROJECT),
            run("usual", 9, agent_id="dear"),
            run("odd", 9, agent_id="cheap"),
        ]
    )
    assert scores(empty) == {("odd", "cost"): None}
    # In this project, the other agent has no history.
    assert scores(empty, project_id=PROJECT) == {("odd", "cost"): None}
    assert scores(empty, project_id=OTHER_PROJECT) == {}


def test_erased_and_failed_runs_are_as_good_as_others(empty: Ledger) -> None:
    history = list(past(*[1] * 20, status="failed"))
    empty.audit.record_executions([*history, run("odd", 9, status="aborted")])
    before = empty.audit.anomalies(DAY)
    for each in history[:5]:
        empty.audit.erase_payload(each["run_id"], "a request")
    empty.audit.erase_payload("odd", "a request")
    assert empty.audit.anomalies(DAY) == before != []


def test_giant_numbers_have_scores(empty: Ledger) -> None:
    history = [
        run(f"{n}", MOST if n % 2 else 0, (2**63 - 1) * (n % 2), created_at=START - n * HOUR)
        for n in range(1, 21)
    ]
    more = [*past(*[Decimal("1e-12")] * 20, agent_id="tiny"), run("odd", MOST, agent_id="tiny")]
    empty.audit.record_executions([*history, *more, run("giant", MOST, 2**63 - 1)])
    found = empty.audit.anomalies(DAY, threshold=0.5)
    assert [(each.run_id, each.measure, each.value) for each in found] == [
        ("odd", "cost", MOST),
        ("giant", "cost", MOST),
        ("giant", "duration", Decimal(2**63 - 1)),
    ]
    assert found[0].score is None
    assert [each.score for each in found[1:]] == [pytest.approx(0.6745)] * 2


def test_anomalies_can_be_written(ledger: Ledger) -> None:
    found = ledger.audit.anomalies(DAY)
    assert {None} < {each.score for each in found}
    told = json.loads(json.dumps([each.to_dict() for each in found]))
    assert [each["score"] for each in told] == [each.score for each in found]


def test_an_interval_ends_at_a_moment(ledger: Ledger) -> None:
    assert ledger.audit.anomalies("1D", at=DAY.end) == ledger.audit.anomalies(DAY)
    assert ledger.audit.anomalies("7D") == []


def test_a_reader_is_told_of_his_own_runs(filled_url: str, kind: Kind) -> None:
    with roles_of(filled_url) as roles:
        reader = roles.granted("reader", [ALICE])
        with ledger_at(reader.url, kind) as ledger:
            found = ledger.audit.anomalies(DAY)
    own = [each for each in RUNS if each["user_id"] == ALICE]
    assert_same(found, wanted(own, DAY, 3.5, timedelta(days=30), 20, 100))
    assert found


def every_read(audit: Any) -> list[Any]:
    """The answers, or what is awaited for them, of all that this and its sister modules ask."""
    rules = [AllocationRule(to="a", user_id=ALICE), AllocationRule(to="b", agent_id="steady")]
    window = Window(start=START - timedelta(days=40), end=DAY.end)
    return [
        audit.anomalies(DAY, project_id=PROJECT, threshold=1),
        audit.tool_costs(window),
        audit.step_costs(window, agent_id="steady", limit=1),
        audit.allocate_costs(rules, window),
        audit.execution_tree("run 7"),
        audit.execution_tree("nobody's"),
    ]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_a_bound_ledger_answers_the_same_by_any_driver(filled_url: str, driver: str) -> None:
    with ledger_at(filled_url) as ledger:
        expected = every_read(ledger.audit)
    url = make_url(filled_url).set(drivername=f"postgresql+{driver}")
    if driver != "asyncpg":
        with create_engine(url, poolclass=NullPool).connect() as connection:
            assert every_read(Ledger.bound(connection).audit) == expected
        return

    async def read() -> list[Any]:
        there = url.set(port=None, query={"host": url.query["host"]})
        async with create_async_engine(there, poolclass=NullPool).connect() as connection:
            return [await each for each in every_read(AsyncLedger.bound(connection).audit)]

    assert asyncio.run(read()) == expected


@pytest.fixture(scope="module")
def busy_url(databases: Databases, target: Target) -> Iterator[str]:
    """Twenty thousand runs of two years, of ten agents in two projects."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    stop_jobs(url)
    runs = (
        run(
            f"run {number}",
            number % 97,
            number % 89,
            agent_id=f"agent {number % 10}",
            project_id=(PROJECT, OTHER_PROJECT)[number % 3 % 2],
            created_at=START + timedelta(hours=20) - timedelta(minutes=number * 53),
        )
        for number in range(20_000)
    )
    with audited(url) as ledger:
        ledger.audit.record_executions(runs)
    sql(url, "VACUUM ANALYZE ledger.execution_ledger")
    yield url
    databases.drop(name)


@pytest.mark.parametrize(
    "index, held",
    [
        ("idx_execution_ledger_costs", {}),
        ("idx_execution_ledger_costs", {"agent_id": "agent 3"}),
        ("idx_execution_ledger_project", {"project_id": PROJECT}),
    ],
    ids=["everybody", "agent", "project"],
)
def test_only_covering_indexes_are_read_and_the_names_of_what_is_found(
    busy_url: str, index: str, held: dict[str, Any]
) -> None:
    with ledger_at(busy_url) as ledger, sent_by_reads() as sent:
        found = ledger.audit.anomalies(DAY, threshold=0.1, limit=3, **held)
    assert len(found) == 3
    with superuser(busy_url) as connection:
        plan = explained_read(connection, sent[-1])
    assert index in plan.indexes, str(plan)
    assert "execution_ledger" not in plan.read_in_full, str(plan)
    looked_up = [
        node["Index Name"]
        for node in plan.nodes()
        if node.get("Relation Name") == "execution_ledger"
        and node["Node Type"] != "Index Only Scan"
    ]
    assert looked_up == ["execution_ledger_pkey"], str(plan)
    # A month of two years, however often: nothing like all runs.
    assert max(node["Actual Rows"] for node in plan.nodes()) < 2_000, str(plan)
    assert len(sent) == 2  # the first asks for the context


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"window": "2W"}, "'2W' is not an interval"),
        ({"window": DAY, "at": START}, "a Window ends where it says"),
        ({"project_id": "mine"}, "project_id 'mine' is not a UUID"),
        ({"agent_id": 7}, "agent_id 7 is not a str"),
        ({"limit": 0}, "limit 0 is not a whole number of at least 1"),
        ({"least": 0}, "least 0 is not a whole number of runs, at least 1"),
        ({"least": True}, "least True is not a whole number"),
        ({"least": 2**63}, f"least {2**63} is not a whole number"),
        ({"threshold": 0}, "threshold 0 is not a number above 0; 3.5 is usual"),
        ({"threshold": -1}, "threshold -1 is not a number above 0"),
        ({"threshold": True}, "threshold True is not a number above 0"),
        ({"threshold": "3.5"}, "threshold '3.5' is not a number above 0"),
        ({"threshold": math.nan}, "threshold nan is not a number above 0"),
        ({"threshold": math.inf}, "threshold inf is not a number above 0"),
        ({"threshold": 10**400}, r"threshold 10+\.\.\.0+ is not a number above 0"),
        ({"threshold": Decimal("sNaN")}, r"threshold Decimal\('sNaN'\) is not a number above 0"),
        ({"history": timedelta(0)}, "history .* is not a length of time; pass timedelta"),
        ({"history": -HOUR}, "history .* is not a length of time"),
        ({"history": 30}, "history 30 is not a length of time"),
        ({"history": timedelta.max}, "history 999999999 days.* reaches beyond the calendar"),
    ],
)
def test_a_wrong_argument_is_named(filled_url: str, wrong: dict[str, Any], words: str) -> None:
    with ledger_at(filled_url) as ledger, pytest.raises(InvalidArgument, match=words):
        ledger.audit.anomalies(**{"window": "1D", **wrong})
