"""Runs are found by the indexes that are there for it: no page reads more than the first, and
nothing is sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from ledger import Ledger, Window
from ledger.engine import PLAN_TRANSACTION
from ledger.queries.execution_export import execution_export, execution_stream
from ledger.queries.execution_filters import ExecutionFilter, cursor_of
from ledger.queries.execution_sums import MEASURES
from tests.audits import ALICE, BOB, OTHER_PROJECT, PROJECT, audited, execution
from tests.catalogues import until
from tests.databases import Databases, Target
from tests.ledgers import NOW
from tests.plans import Plan
from tests.roles import roles_of
from tests.sent import Sent, sent_by_reads
from tests.writers import sql, superuser

RUNS: Final = 28_000
PAGE: Final = 2
DEEP: Final = 10_000
"""The page, of so many runs, that is as cheap as the first."""
TABLE: Final = "execution_ledger"
FIRST: Final = NOW - timedelta(days=20)
MONTH: Final = Window(start=NOW - timedelta(days=30), end=NOW)
DAYS: Final = Window(start=FIRST + timedelta(days=2), end=FIRST + timedelta(days=9))
ALL_TIME: Final = Window(
    start=datetime.min.replace(tzinfo=UTC), end=datetime.max.replace(tzinfo=UTC)
)


def a_run(number: int) -> dict[str, Any]:
    """One a minute; of four, three are of the project, and the agent's are among all."""
    return execution(
        f"run-{number}",
        project_id=OTHER_PROJECT if number % 4 == 0 else PROJECT,
        user_id=BOB if number % 2 else ALICE,
        agent_id="agent-0" if number % 8 else f"agent-{number % 7}",
        status="failed" if number % 50 == 0 else "aborted" if number % 77 == 0 else "completed",
        parent_run_id=f"run-{number - 1}" if number % 10 == 0 else None,
        input={"prompt": f"{number:07}" * 40},
        created_at=FIRST + timedelta(minutes=number),
    )


@pytest.fixture(scope="module")
def filled_url(databases: Databases, target: Target) -> Iterator[str]:
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    with audited(url) as ledger:
        assert ledger.audit.record_executions(map(a_run, range(1, RUNS))).inserted == RUNS - 1
    until(lambda: is_vacuumed(url), "all rows visible to all")
    yield url
    databases.drop(name)


def is_vacuumed(url: str) -> bool:
    """Vacuum, and whether that could mark every page as visible to all.

    Not where autovacuum analyzes something at that moment, or a commit is not on disk yet.
    """
    sql(url, "CHECKPOINT")
    sql(url, "VACUUM ANALYZE")
    ((is_visible,),) = sql(
        url,
        "SELECT relallvisible = relpages FROM pg_class"
        " WHERE oid = 'ledger.execution_ledger'::regclass",
    )
    return bool(is_visible)


def explained(
    connection: psycopg.Connection[Any], sent: Sent, settings: Sequence[str] = ()
) -> Plan:
    """The plan of a statement, on a connection that is set up as the repositories' are."""
    with connection.transaction(force_rollback=True):
        connection.execute(PLAN_TRANSACTION)
        for each in settings:
            connection.execute(each.encode())
        found = connection.execute(
            b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sent.statement, sent.parameters
        )
        return Plan(found.fetchall()[0][0][0]["Plan"])


Ask = Callable[[Ledger], object]


def plan_of(url: str, ask: Ask) -> Plan:
    with Ledger.connect(url) as ledger, sent_by_reads() as sent:
        ask(ledger)
    with superuser(url) as connection:
        return explained(connection, sent[-1])


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of the table and its indexes a plan looked at."""

    rows: float
    pages: int

    @classmethod
    def of(cls, plan: Plan) -> Reading:
        scans = [node for node in plan.nodes() if node.get("Relation Name") == TABLE]
        rows = sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in scans
        )
        pages = sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in scans)
        return cls(rows, pages)


def sorted_by(plan: Plan) -> list[str]:
    return [node["Node Type"] for node in plan.nodes() if "Sort" in node["Node Type"]]


# --- pages ---


def cursor_after(url: str, rows: int, condition: str) -> str:
    """The cursor of the page that comes after so many rows."""
    ((identity,),) = sql(
        url,
        f"SELECT id FROM ledger.execution_ledger WHERE {condition}"
        f" ORDER BY created_at DESC, id DESC OFFSET {rows - 1} LIMIT 1",
    )
    return cursor_of(identity)


Page = Callable[..., object]


def of_project(ledger: Ledger, **asked: Any) -> object:
    return ledger.audit.executions_by_project(PROJECT, limit=PAGE, **asked)


def of_agent(ledger: Ledger, **asked: Any) -> object:
    return ledger.audit.executions_by_agent("agent-0", limit=PAGE, **asked)


PROJECTS: Final = f"project_id = '{PROJECT}'"
OF_PROJECT: Final = (of_project, "idx_execution_ledger_project", PROJECTS)
OF_AGENT: Final = (of_agent, "idx_execution_ledger_costs", "agent_id = 'agent-0'")
PAGES: Final[tuple[tuple[tuple[Page, str, str], dict[str, Any]], ...]] = (
    (OF_PROJECT, {}),
    (OF_PROJECT, {"window": MONTH}),
    (OF_PROJECT, {"window": ALL_TIME}),
    (OF_PROJECT, {"status": "completed"}),
    (OF_AGENT, {}),
    (OF_AGENT, {"window": MONTH}),
)


def page_after(url: str, rows: int, of: tuple[Page, str, str], asked: dict[str, Any]) -> Plan:
    ask, index, condition = of
    cursor = cursor_after(url, rows, condition)
    plan = plan_of(url, lambda ledger: ask(ledger, after=cursor, **asked))
    assert index in plan.indexes, str(plan)
    assert sorted_by(plan) == [], str(plan)
    return plan


@pytest.mark.parametrize("of, asked", PAGES)
def test_page_ten_thousand_reads_no_more_than_page_two(
    filled_url: str, of: tuple[Page, str, str], asked: dict[str, Any]
) -> None:
    second, deep = (page_after(filled_url, rows, of, asked) for rows in (PAGE, DEEP * PAGE))
    for plan in (second, deep):
        # The page and one more by the index, each of them from the table, and one of a status.
        assert Reading.of(plan).rows <= 2 * (PAGE + 1) + 1, str(plan)
    # Not a page more but for where a tree is a level deeper, or a leaf has ended.
    assert Reading.of(deep).pages <= Reading.of(second).pages + 4, str(deep)


def test_a_cursor_within_a_window_is_entered_where_it_stands(filled_url: str) -> None:
    """And not at the end of the window, from which all rows up to it would be read."""
    of = (of_project, OF_PROJECT[1], f"{PROJECTS} AND created_at < '{DAYS.end}'")
    for rows in (2, 5_000):
        plan = page_after(filled_url, rows, of, {"window": DAYS})
        assert Reading.of(plan).pages <= 24, str(plan)


@pytest.mark.parametrize("place", [MONTH.start - timedelta(days=1), MONTH.end])
def test_a_cursor_outside_the_window_reads_no_more(filled_url: str, place: datetime) -> None:
    milliseconds = (place - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    cursor = cursor_of(UUID(int=milliseconds << 80))
    plan = plan_of(filled_url, lambda ledger: of_project(ledger, window=MONTH, after=cursor))
    assert Reading.of(plan).pages <= 24, str(plan)


@pytest.mark.parametrize("ask", [of_project, of_agent])
def test_what_an_offset_skips_is_read_in_the_index_alone(filled_url: str, ask: Page) -> None:
    plan = plan_of(filled_url, lambda ledger: ask(ledger, offset=15_000))
    skipped = [node for node in plan.nodes() if node["Actual Rows"] > 15_000]
    assert {"Index Only Scan"} == {
        node["Node Type"] for node in skipped if "Relation Name" in node
    }, str(plan)
    assert sorted_by(plan) == [], str(plan)
    assert TABLE not in plan.read_in_full, str(plan)


UNSUCCESSFUL: Final = "idx_execution_ledger_unsuccessful"


@pytest.mark.parametrize(
    "one_of, ask",
    [
        ({"execution_ledger_run_id_key"}, lambda ledger: ledger.audit.execution("run-77")),
        ({OF_PROJECT[1]}, of_project),
        ({OF_AGENT[1]}, of_agent),
        ({UNSUCCESSFUL}, lambda ledger: ledger.audit.failed_executions(limit=20)),
        (
            {UNSUCCESSFUL, OF_PROJECT[1]},
            lambda ledger: ledger.audit.failed_executions(OTHER_PROJECT, limit=20),
        ),
    ],
)
def test_a_read_uses_its_index_and_sorts_nothing(
    filled_url: str, one_of: set[str], ask: Ask
) -> None:
    plan = plan_of(filled_url, ask)
    assert one_of & plan.indexes, str(plan)
    assert sorted_by(plan) == [], str(plan)
    assert TABLE not in plan.read_in_full, str(plan)


def test_the_pages_of_a_role_that_sees_all_are_read_alike(filled_url: str) -> None:
    cursor = cursor_after(filled_url, DEEP * PAGE, PROJECTS)
    with roles_of(filled_url) as roles:
        role = roles.granted("auditor")
        with Ledger.connect(role.url) as ledger, sent_by_reads() as sent:
            of_project(ledger, after=cursor)
        with role.connect() as connection:
            plan = explained(connection, sent[-1])
    assert "idx_execution_ledger_project" in plan.indexes, str(plan)
    assert Reading.of(plan).rows <= 2 * (PAGE + 1) + 1, str(plan)


@pytest.mark.parametrize(
    "index, ask, times",
    [
        (
            OF_AGENT[1],
            lambda ledger, window: ledger.audit.agent_cost_statistics("agent-0", window=window),
            2,  # for its sums and for its bins
        ),
        (
            OF_PROJECT[1],
            lambda ledger, window: ledger.audit.project_execution_statistics(PROJECT, window),
            1,
        ),
    ],
    ids=["agent", "project"],
)
def test_statistics_read_the_rows_of_days_that_are_cut_in_an_index_alone(
    filled_url: str, index: str, ask: Callable[[Ledger, Window], object], times: int
) -> None:
    cut = Window(start=DAYS.start + timedelta(hours=7), end=DAYS.end - timedelta(hours=5))
    plan = plan_of(filled_url, lambda ledger: ask(ledger, cut))
    scans = [node for node in plan.nodes() if node.get("Relation Name") == TABLE]
    assert {(node["Node Type"], node["Index Name"]) for node in scans} == {
        ("Index Only Scan", index)
    }, str(plan)
    first_day, last_day = (
        moment.replace(hour=0, minute=0, second=0) for moment in (cut.start, cut.end)
    )
    of_cut_days = first_day + timedelta(days=1) - cut.start + cut.end - last_day
    assert Reading.of(plan).rows <= times * (of_cut_days // timedelta(minutes=1)), str(plan)


SUMS: Final = f"""
INSERT INTO ledger.execution_{{table}} (bucket, agent_id, project_id, status, {{names}})
SELECT day, 'agent-' || agent, CASE project WHEN 1 THEN '{PROJECT}' ELSE md5(project::text)::uuid
  END, 'completed', {{values}}
FROM generate_series('{NOW:%Y-%m-%d}Z'::timestamptz - interval '59 days', '{NOW:%Y-%m-%d}Z',
    interval '1 day') AS day,
  generate_series(1, 20) AS project, generate_series(1, 20) AS agent, generate_series(1, {{bins}})
    AS bin
ORDER BY day, random()"""
"""Of twenty projects with twenty agents each."""


@pytest.fixture(scope="module")
def summed_url(databases: Databases, target: Target) -> Iterator[str]:
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    ones = ", ".join("1" for _ in MEASURES)
    sql(url, SUMS.format(table="days", names=", ".join(MEASURES), values=ones, bins=1))
    sql(url, SUMS.format(table="costs", names="bin, executions", values="bin, 1", bins=5))
    sql(url, "VACUUM ANALYZE ledger.execution_days, ledger.execution_costs")
    yield url
    databases.drop(name)


@pytest.mark.parametrize("window", [None, MONTH], ids=["all time", "a month"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda ledger, window: ledger.audit.agent_cost_statistics("agent-7", window=window),
        lambda ledger, window: ledger.audit.agent_cost_statistics("agent-7", PROJECT, window),
        lambda ledger, window: ledger.audit.project_execution_statistics(PROJECT, window),
    ],
    ids=["agent", "agent of a project", "project"],
)
def test_sums_are_found_by_agent_or_project_and_not_by_the_day(
    summed_url: str, ask: Callable[[Ledger, Window | None], object], window: Window | None
) -> None:
    plan = plan_of(summed_url, lambda ledger: ask(ledger, window))
    assert not plan.read_in_full, str(plan)
    conditions = [
        node["Index Cond"]
        for node in plan.nodes()
        if str(node.get("Index Name")).startswith(("execution_days", "execution_costs"))
    ]
    # In the order of the index: one that began with the day would be read for all days.
    assert conditions, str(plan)
    for each in conditions:
        assert each.lstrip("(").startswith(("agent_id = ", "project_id = ")), str(plan)


# --- streams and exports ---

AS_INSTALLED: Final = tuple(
    f"SET LOCAL {name} = DEFAULT"
    for name in ("random_page_cost", "max_parallel_workers_per_gather", "jit")
)
"""As a caller's connection may be set up, whose transaction a bound ledger reads in."""
either = pytest.mark.parametrize("settings", [(), AS_INSTALLED], ids=["ours", "a caller's"])

STREAMS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("execution_ledger_pkey", {}),
    ("execution_ledger_pkey", {"window": DAYS}),
    ("execution_ledger_pkey", {"status": "completed"}),
    ("execution_ledger_pkey", {"status": "completed", "window": DAYS}),
    ("idx_execution_ledger_unsuccessful", {"status": "failed"}),
    ("idx_execution_ledger_unsuccessful", {"status": "aborted", "window": DAYS}),
    ("idx_execution_ledger_project", {"project_id": PROJECT}),
    ("idx_execution_ledger_project", {"project_id": OTHER_PROJECT, "window": DAYS}),
    ("idx_execution_ledger_user", {"user_id": ALICE}),
    ("idx_execution_ledger_costs", {"agent_id": "agent-0"}),
)


def plan_of_stream(url: str, settings: Sequence[str], values: dict[str, Any]) -> Plan:
    stream = execution_stream(ExecutionFilter(**values))
    compiled = stream.declared(is_held=False).compile(dialect=PGDialect_psycopg())  # type: ignore[no-untyped-call]
    sent = Sent(str(compiled).encode(), {**compiled.params, **stream.parameters})
    with superuser(url) as connection:
        return explained(connection, sent, settings)


@either
@pytest.mark.parametrize("index, values", STREAMS)
def test_a_stream_is_read_in_order_and_sorts_nothing(
    filled_url: str, index: str, values: dict[str, Any], settings: Sequence[str]
) -> None:
    plan = plan_of_stream(filled_url, settings, values)
    assert plan.indexes == {index}, str(plan)
    assert plan.root["Node Type"] == "Index Scan", str(plan)
    if "status" not in values:
        assert plan.thrown_away == 0, str(plan)


def test_what_a_run_triggered_is_found_by_its_index(filled_url: str) -> None:
    plan = plan_of_stream(filled_url, (), {"parent_run_id": "run-9"})
    assert plan.indexes == {"idx_execution_ledger_parent"}, str(plan)


@either
@pytest.mark.parametrize("window", [DAYS, MONTH, ALL_TIME])
def test_an_export_is_read_in_order_and_sorts_nothing(
    filled_url: str, window: Window, settings: Sequence[str]
) -> None:
    export = execution_export(PROJECT, window)
    compiled = export.statement.compile(dialect=PGDialect_psycopg())  # type: ignore[no-untyped-call]
    sent = Sent(str(compiled).encode(), export.parameters)
    with superuser(filled_url) as connection:
        connection.cursor_factory = psycopg.ClientCursor
        plan = explained(connection, sent, settings)
    assert plan.indexes == {"idx_execution_ledger_project"}, str(plan)
    assert (sorted_by(plan), plan.thrown_away) == ([], 0), str(plan)
    assert plan.read == {TABLE}
