"""Runs of agents by the million: 90 days, five projects, twenty agents, 1.7 KB of JSON each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count, islice
from multiprocessing import get_context
from random import Random
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
from pydantic_core import to_json
from sqlalchemy import make_url

from ledger.records.identity import derived_id
from ledger.window import utc
from tests.servers import libpq

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ledger import Ledger

DAYS: Final = 90
AGENTS: Final = 20
BUSIEST: Final = "agent-0"
"""The agent of a fifth of all runs."""
USERS: Final = 50
PROJECTS: Final = tuple(UUID(int=number << 64 | 1) for number in range(1, 6))
LARGE: Final = PROJECTS[0]
SHARE_OF_LARGE: Final = 0.6
"""Of all runs."""
BATCH: Final = 1_000

APPEND: Final = "SELECT ledger.append_executions(%s::uuid[], %s::json)"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STEPS: Final = (
    ("validate_service", "shell"),
    ("build_docker_image", "docker"),
    ("push_to_registry", "registry"),
    ("backup_database", "pg_dump"),
    ("migrate_schema", "alembic"),
    ("deploy_kubernetes", "kubectl"),
    ("check_health", "http"),
    ("notify_team", "slack"),
)
_INTENTS: Final = (
    "Deploy microservice to production",
    "Migrate schema with data validation",
    "Full infrastructure audit and optimization",
    "Find out why checkout is slow since the last release",
)
_BROKEN: Final = "Constraint violation on users.email UNIQUE index. Changes rolled back."


def introduce(ledger: Ledger) -> None:
    """Make the users and projects known."""
    ledger.tenancy.set_tier("pro", "1.5")
    for number in range(1, USERS + 1):
        ledger.tenancy.upsert_user(id=UUID(int=number), tier="pro")
    for project in PROJECTS:
        ledger.tenancy.upsert_project(f"project {project.int >> 64}", id=project)


class Runs:
    """Drawn runs of some projects, as they are recorded; one in ten did not complete."""

    def __init__(self, name: str, projects: Sequence[UUID]) -> None:
        """``name`` is what run ids begin with, and what is drawn depends on."""
        self._name, self._projects = name, projects
        self._numbers, self._random = count(), Random(name)

    def draw(self, number: int, *, first: datetime, step: timedelta) -> Iterator[dict[str, Any]]:
        """As many runs, of which each ended a step after the one before."""
        return (self._run(utc(first + place * step)) for place in range(number))

    def _run(self, ended: datetime) -> dict[str, Any]:
        random = self._random
        (status,) = random.choices(("completed", "failed", "aborted"), (90, 7, 3))
        run_id = f"run-{self._name}-{next(self._numbers):08}"
        begun = ended - timedelta(seconds=random.randrange(60, 600))
        cents, calls = random.randrange(1, 4_000_000) / 10_000, random.randrange(900)
        return {
            "run_id": run_id,
            "project_id": random.choice(self._projects),
            "user_id": UUID(int=random.randrange(1, USERS + 1)),
            "agent_id": f"agent-{int(AGENTS * random.random() ** 2)}",
            "intent": random.choice(_INTENTS),
            "input": {
                "service": f"user-api-{random.randrange(300)}",
                "version": f"v2.{random.randrange(40)}.{random.randrange(10)}",
                "environment": "production",
                "ticket": f"https://tracker.example.com/browse/OPS-{random.randrange(90_000)}",
            },
            "output": None if status == "aborted" else self._output(),
            "cost": {
                "total": round(cents + calls, 4),
                "breakdown": {"tokens": cents, "toolCalls": calls},
            },
            "trace": {
                "steps": [self._step(begun, *step) for step in _STEPS],
                "duration_ms": random.randrange(500, 600_000),
                "tool_calls": len(_STEPS),
                "api_calls": random.randrange(40),
            },
            "status": status,
            "error_message": None if status == "completed" else _BROKEN,
            "parent_run_id": f"{run_id}-parent" if random.randrange(4) == 0 else None,
            "created_at": ended,
        }

    def _output(self) -> dict[str, Any]:
        return {
            "deployed": True,
            "url": "https://user-api.example.com/releases/current",
            "commit": f"{self._random.getrandbits(160):040x}",
            "health_check": "passing",
            "latency_ms": self._random.random() * 900,
        }

    def _step(self, begun: datetime, action: str, tool: str) -> dict[str, Any]:
        return {
            "action": action,
            "tool": tool,
            "timestamp": (begun + timedelta(seconds=self._random.randrange(60))).isoformat(),
            "duration_ms": self._random.randrange(20, 9_000),
            "cost_cents": self._random.randrange(1, 90_000) / 10_000,
            "result": "success",
        }


def in_batches(runs: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """A thousand of them at a time."""
    left = iter(runs)
    while batch := list(islice(left, BATCH)):
        yield batch


def sent(runs: Iterable[Mapping[str, Any]]) -> str:
    """The JSON text of which ``append_executions`` makes rows."""
    return to_json([_row(run) for run in runs]).decode()


def _row(run: Mapping[str, Any]) -> dict[str, Any]:
    milliseconds = (run["created_at"] - _EPOCH) // timedelta(milliseconds=1)
    row = {name: value for name, value in run.items() if name not in {"cost", "trace"}}
    return row | {
        "id": derived_id(milliseconds, run["project_id"], run["run_id"]),
        "cost_json": run["cost"],
        "execution_trace_json": run["trace"],
    }


def load(url: str, rows: int, *, end: datetime) -> None:
    """Append ``rows`` runs, evenly over the 90 days before ``end``, in two processes.

    One has the large project and the other the rest: who append to one project take turns.
    """
    large = int(rows * SHARE_OF_LARGE)
    shares = (("large", [LARGE], large), ("small", PROJECTS[1:], rows - large))
    context = get_context("spawn")
    workers = [context.Process(target=_append, args=(url, *share, end)) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise RuntimeError(f"a process that loads runs ended with {worker.exitcode}")


def _append(url: str, name: str, projects: Sequence[UUID], rows: int, end: datetime) -> None:
    span = timedelta(days=DAYS)
    runs = Runs(name, projects).draw(rows, first=end - span, step=span / rows)
    with psycopg.connect(libpq(make_url(url)), autocommit=True) as connection:
        for batch in in_batches(runs):
            connection.execute(APPEND.encode(), [list(projects), sent(batch)])
