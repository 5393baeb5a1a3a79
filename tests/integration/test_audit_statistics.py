"""Statistics of runs are exact whatever is folded, whoever asks, and wherever the edges are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from ledger import Ledger, Window
from ledger.engine import engine
from ledger.errors import InvalidArgument
from ledger.records.execution_statistics import CostStatistics, ExecutionStatistics
from tests.audits import ALICE, BOB, OTHER_PROJECT, PROJECT, execution, introduce
from tests.databases import Databases, Target
from tests.ledgers import ledger_at
from tests.roles import Roles, roles_of
from tests.writers import Kind, stop_jobs

NOW = datetime.now(UTC).replace(microsecond=0)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0)
AGENTS = ("backend", "frontend", "researcher")

WINDOWS = {
    "all": None,
    "whole days": Window(start=MIDNIGHT - timedelta(days=5), end=MIDNIGHT - timedelta(days=1)),
    "with edges": Window(
        start=MIDNIGHT - timedelta(days=5, hours=7), end=MIDNIGHT - timedelta(hours=3)
    ),
    "within a day": Window(start=MIDNIGHT - timedelta(hours=20), end=MIDNIGHT - timedelta(hours=4)),
    "empty": Window(start=MIDNIGHT - timedelta(days=90), end=MIDNIGHT - timedelta(days=80)),
    "of no length": Window(start=NOW, end=NOW),
}


def runs() -> list[dict[str, Any]]:
    """Some hundred runs of two projects, three agents and two users over six days."""
    random = Random(5)
    made = []
    for number in range(300):
        status = random.choice(["completed"] * 6 + ["failed", "aborted"])
        cents = random.choice([Decimal(0), Decimal(random.randint(1, 10**7)) / 1000])
        made.append(
            execution(
                run_id=f"run-{number}",
                project_id=random.choice([PROJECT, PROJECT, OTHER_PROJECT]),
                user_id=random.choice([ALICE, BOB]),
                agent_id=random.choice(AGENTS),
                status=status,
                cost={"total": cents},
                trace={"duration_ms": random.randint(0, 100_000)},
                created_at=MIDNIGHT - timedelta(seconds=random.randint(0, 6 * 86_400)),
            )
        )
    return made


RUNS = runs()


def within(window: Window | None, **held: object) -> list[dict[str, Any]]:
    """The runs of the oracle that match."""
    return [
        run
        for run in RUNS
        if (window is None or window.start <= run["created_at"] < window.end)
        and all(run[name] == value for name, value in held.items() if value is not None)
    ]


def same_costs(found: CostStatistics, wanted: Sequence[dict[str, Any]]) -> None:
    """The statistics are those of these runs."""
    costs = sorted(run["cost"]["total"] for run in wanted)
    count, total = len(costs), sum(costs, Decimal(0))
    assert (found.count, found.total_cents) == (count, total)
    assert found.average_cents == pytest.approx(total / count if count else 0)
    assert (found.minimum_cents, found.maximum_cents) == (
        (costs[0], costs[-1]) if costs else (0, 0)
    )
    for share, at_rank in ((0.5, found.p50_cents), (0.95, found.p95_cents)):
        exact = costs[math.ceil(share * count) - 1] if costs else Decimal(0)
        assert at_rank == pytest.approx(
            exact, rel=Decimal(str(found.percentile_error)) + Decimal("0.00001")
        )


def same_statistics(found: ExecutionStatistics, wanted: Sequence[dict[str, Any]]) -> None:
    """The statistics are those of these runs."""
    count, total = len(wanted), sum((run["cost"]["total"] for run in wanted), Decimal(0))
    taken = sum(run["trace"]["duration_ms"] for run in wanted)
    assert (found.total_executions, found.total_cost_cents) == (count, total)
    assert (found.successful, found.failed, found.aborted) == tuple(
        sum(run["status"] == status for run in wanted)
        for status in ("completed", "failed", "aborted")
    )
    assert found.average_cost_cents == pytest.approx(total / count if count else 0)
    assert found.average_duration_ms == pytest.approx(Decimal(taken) / count if count else 0)
    assert {
        agent: (share.executions, share.cost_cents) for agent, share in found.by_agent.items()
    } == {
        agent: (
            sum(run["agent_id"] == agent for run in wanted),
            sum((run["cost"]["total"] for run in wanted if run["agent_id"] == agent), Decimal(0)),
        )
        for agent in {run["agent_id"] for run in wanted}
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A database with RUNS in it: folded, folded into what was, and waiting to be."""

    url: str
    roles: Roles


@pytest.fixture(scope="module")
def filled(databases: Databases, target: Target) -> Iterator[Filled]:
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    stop_jobs(url)
    with Ledger.connect(url) as ledger:
        introduce(ledger)
        owner = engine(url)
        for begin in (0, 100):
            ledger.audit.record_executions(RUNS[begin : begin + 100], batch_size=37)
            with owner.begin() as connection:
                assert connection.scalar(text("SELECT ledger.fold_execution_deltas()"))
            assert ledger.audit.verify(PROJECT).is_intact
        owner.dispose()
        ledger.audit.record_executions(RUNS[200:], batch_size=37)
    with roles_of(url) as roles:
        yield Filled(url=url, roles=roles)
    databases.drop(name)


@pytest.fixture(params=["service", "auditor", "superuser", "reader", "project auditor"])
def asking(filled: Filled, request: pytest.FixtureRequest) -> tuple[str, dict[str, UUID]]:
    """The URL of somebody who asks, and what he sees."""
    match request.param:
        case "superuser":
            return filled.url, {}
        case "reader":
            return filled.roles.granted("reader", [ALICE]).url, {"user_id": ALICE}
        case "project auditor":
            role = filled.roles.granted("auditor", projects=[PROJECT])
            return role.url, {"project_id": PROJECT}
    return filled.roles.granted(request.param).url, {}


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_statistics_are_those_of_the_runs_that_one_sees(
    asking: tuple[str, dict[str, UUID]], window: Window | None
) -> None:
    url, seen = asking
    with Ledger.connect(url) as ledger:
        for project in (PROJECT, OTHER_PROJECT):
            same_statistics(
                ledger.audit.project_execution_statistics(project, window),
                [run for run in within(window, **seen) if run["project_id"] == project],
            )
        for agent in (*AGENTS, "nobody"):
            for of in (None, PROJECT):
                same_costs(
                    ledger.audit.agent_cost_statistics(agent, of, window),
                    [
                        run
                        for run in within(window, **seen)
                        if run["agent_id"] == agent and of in {None, run["project_id"]}
                    ],
                )


def test_a_service_that_is_narrowed_counts_one_users_runs(filled: Filled) -> None:
    role = filled.roles.granted("service")
    own = engine(role.url)
    with own.begin() as connection:
        connection.execute(
            text("SELECT set_config('ledger.user_id', :user, true)"), {"user": str(BOB)}
        )
        found = Ledger.bound(connection).audit.project_execution_statistics(PROJECT)
    own.dispose()

    same_statistics(found, within(None, project_id=PROJECT, user_id=BOB))


def test_a_run_counts_the_moment_it_is_recorded(database_url: str, kind: Kind) -> None:
    with ledger_at(database_url, kind) as ledger:
        introduce(ledger)
        for number, cents in enumerate(("1.5", "0", "2.25"), 1):
            ledger.audit.record_execution(
                execution(run_id=f"run {number}", agent_id="agent", cost={"total": cents})
            )
            assert ledger.audit.agent_cost_statistics("agent").count == number
        found = ledger.audit.agent_cost_statistics("agent", PROJECT, "1D")

    assert (found.total_cents, found.minimum_cents, found.maximum_cents) == (
        Decimal("3.75"),
        Decimal(0),
        Decimal("2.25"),
    )
    assert found.average_cents == Decimal("1.25")


@pytest.mark.parametrize(
    "ask, named",
    [
        (lambda ledger: ledger.audit.agent_cost_statistics(None), "agent_id None"),
        (lambda ledger: ledger.audit.agent_cost_statistics("a", "x"), "project_id 'x'"),
        (lambda ledger: ledger.audit.agent_cost_statistics("a", window="2Y"), "'2Y'"),
        (lambda ledger: ledger.audit.agent_cost_statistics("a", at=NOW), "`at`"),
        (lambda ledger: ledger.audit.project_execution_statistics("x"), "project_id 'x'"),
        (lambda ledger: ledger.audit.project_execution_statistics(PROJECT, 5), "5"),
    ],
)
def test_a_wrong_argument_is_named(database_url: str, ask: Any, named: str) -> None:
    with Ledger.connect(database_url) as ledger, pytest.raises(InvalidArgument, match=named):
        ask(ledger)
