"""`ledger verify analytics` on every database: what holds is said, and what does not is named."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import make_url

from ledger import Ledger
from ledger.engine import engine
from ledger.maintenance.verification import (
    LIMITS,
    AnalyticsReport,
    Limits,
    Severity,
    Status,
    UnusedAfter,
    Verdict,
    verify_analytics,
)
from ledger.maintenance.verification.data import verify_data
from ledger.maintenance.verification.indexes import declared_indexes
from ledger.maintenance.verification.sight import USAGE, sight_of
from ledger.settings import Storage
from tests.commands import VARIABLES, run, succeed
from tests.databases import Target
from tests.ledgers import NOW, Books, books_at
from tests.readings import Database
from tests.roles import PASSWORD, Roles, roles_of
from tests.writers import sql

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_analytics_schema.py"
COMMAND = ("verify", "analytics")
THIRTEEN = {
    "id": "uuid NOT NULL",
    "request_id": "text NOT NULL",
    "user_id": "uuid NOT NULL",
    "model_id": "text NOT NULL",
    "provider_id": "uuid NOT NULL",
    "vendor_cost": "numeric(24,12)",
    "credits_deducted": "bigint",
    "margin_multiplier": "numeric(12,6)",
    "gross_margin_usd": "numeric(24,12)",
    "status": "text NOT NULL",
    "created_at": "timestamp(3) with time zone NOT NULL",
    "input_tokens": "bigint NOT NULL",
    "output_tokens": "bigint NOT NULL",
}
QUESTIONS = ["gross_margin", "provider_costs", "margin_trend", "cost_distribution"]
NEVER, ALWAYS = math.inf, -1.0
"""Milliseconds that no answer reaches, and that each one exceeds."""


@pytest.fixture
def at(database_url: str) -> tuple[str, str]:
    """The options that name the test's database."""
    return "--database-url", database_url


@pytest.fixture
def owner(database_url: str, target: Target) -> Database:
    """A superuser's way round the ledger."""
    return Database(url=database_url, storage=Storage(target.storage))


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    """Five calls of the last four days, of which one failed and one has no price."""
    with books_at(database_url) as books:
        books.ledger.billing.record_usages(
            [
                *(
                    books.usage(f"r{days}", created_at=NOW - timedelta(days=days))
                    for days in range(1, 4)
                ),
                books.usage("failed", status="failed"),
                books.usage("unpriced", model="nobody-sells-this"),
            ]
        )
        yield books


@pytest.fixture
def roles(database_url: str) -> Iterator[Roles]:
    with roles_of(database_url) as roles:
        yield roles


def verified(url: str, limits: Limits | None = None, **options: Any) -> AnalyticsReport:
    """The report; without ``limits`` any speed will do."""
    free = Limits(target_from_ms=0, target_ms=NEVER, acceptable_ms=NEVER, unacceptable_ms=NEVER)
    with Ledger.connect(url) as ledger:
        return verify_analytics(
            url, ledger.billing, limits=dict.fromkeys(LIMITS, limits or free), **options
        )


def failures(report: AnalyticsReport) -> dict[str, str]:
    return {
        finding.about: finding.words
        for finding in report.findings
        if finding.severity is Severity.FAILURE
    }


def test_times_are_told_in_utc_whatever_the_sessions_zone_is(
    books: Books, at: tuple[str, str]
) -> None:
    name = make_url(books.url).database
    sql(books.url, f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'")
    report = verified(books.url)
    told = (
        report.at,
        report.indexes.statistics_since,
        report.data.first_created_at,
        report.data.last_created_at,
    )
    assert [each and each.utcoffset() for each in told] == [timedelta()] * 4
    before = datetime.now(UTC)
    (said,) = re.findall(r"Verified .*, (\S+ \S+) UTC", succeed(*COMMAND, *at).out)
    assert abs(datetime.fromisoformat(said).replace(tzinfo=UTC) - before) < timedelta(minutes=1)


def test_a_fresh_database_is_ready_and_has_no_data(at: tuple[str, str]) -> None:
    ran = succeed(*COMMAND, *at)
    assert "Ready, with 1 warning." in ran.out
    assert "no data" in ran.out
    assert ran.out.count("skipped: no data") == 4
    report = succeed(*COMMAND, "--json", *at).json()
    assert (report["status"], report["is_ready"]) == ("warnings", True)
    assert report["data"]["rows"] == 0
    assert {timing["verdict"] for timing in report["performance"]["timings"]} == {"skipped"}


def test_every_column_is_told_with_its_type_and_what_margins_need_it_for(
    database_url: str,
) -> None:
    schema = verified(database_url).schema
    needed = {column.name: column.found for column in schema.columns if column.purpose}
    assert needed == THIRTEEN
    assert [column.name for column in schema.columns if not column.is_as_declared] == []
    assert {column.name for column in schema.columns} == {column.name for column in USAGE.columns}
    assert schema.column_count == len(USAGE.columns) >= schema.fewest_columns == 26
    assert schema.findings == ()


def test_every_index_is_told_in_the_servers_words(books: Books) -> None:
    found = verified(books.url).indexes
    assert {index.name for index in found.indexes} == {each.name for each in declared_indexes()}
    success = next(index for index in found.indexes if index.name == "idx_token_usage_success")
    assert success.columns == ("created_at",)
    assert success.include[0] == "provider_id"
    assert success.where == "status = 'success'::text AND kind = 'usage'::text"
    assert success.is_valid
    assert success.size_bytes > 0
    assert found.total_bytes == sum(index.size_bytes for index in found.indexes)
    assert found.bytes_per_million_rows is None, "too few rows to say"


def test_data_is_counted_by_kind_and_pricing(books: Books) -> None:
    data = verified(books.url).data
    assert (data.rows, data.is_exact) == (5, True)
    assert data.by("kind") == {"usage": 5}
    assert data.by("pricing_status") == {"priced": 4, "unpriced": 1}
    assert data.first_created_at == NOW - timedelta(days=3)
    assert data.last_created_at == NOW - timedelta(minutes=1)
    assert data.unfolded_deltas == 5
    books.ledger.maintenance.run()
    assert verified(books.url).data.unfolded_deltas == 0


def test_a_large_ledger_is_estimated_from_a_part_of_its_pages(
    database_url: str, books: Books
) -> None:
    calls = (books.usage(f"call-{number}") for number in range(2_000))
    assert books.ledger.billing.record_usages(calls).inserted == 2_000
    looking = engine(database_url)
    with looking.begin() as connection:
        sight = sight_of(connection)
        data = verify_data(connection, sight, counted_pages=40)
    looking.dispose()
    assert data.rows is not None
    assert not data.is_exact
    assert 0 < data.rows < 20_000
    assert data.first_created_at == NOW - timedelta(days=3), "by index, so exact all the same"


def test_all_four_answers_are_timed(books: Books, at: tuple[str, str]) -> None:
    report = verified(books.url)
    assert [timing.question for timing in report.performance.timings] == QUESTIONS
    for timing in report.performance.timings:
        assert timing.verdict is Verdict.ON_TARGET
        assert timing.runs >= 1
        assert timing.fastest_ms is not None
        assert timing.median_ms is not None
        assert timing.slowest_ms is not None
        assert 0 < timing.fastest_ms <= timing.median_ms <= timing.slowest_ms
        assert timing.window is not None
        assert timing.window.length == timedelta(days=30)
        assert timing.window.start < NOW - timedelta(minutes=1) < timing.window.end
    assert report.status is Status.READY
    told = run(*COMMAND, *at).out
    assert [question in told for question in QUESTIONS] == [True] * 4


@pytest.mark.parametrize(
    "limits, verdict, status",
    [
        ((NEVER, NEVER, NEVER), Verdict.ON_TARGET, Status.READY),
        ((ALWAYS, NEVER, NEVER), Verdict.ACCEPTABLE, Status.READY),
        ((ALWAYS, ALWAYS, NEVER), Verdict.SLOW, Status.WARNINGS),
        ((ALWAYS, ALWAYS, ALWAYS), Verdict.UNACCEPTABLE, Status.FAILED),
    ],
)
def test_a_time_is_judged_by_the_limits(
    books: Books, limits: tuple[float, float, float], verdict: Verdict, status: Status
) -> None:
    target, acceptable, unacceptable = limits
    report = verified(
        books.url,
        Limits(
            target_from_ms=0,
            target_ms=target,
            acceptable_ms=acceptable,
            unacceptable_ms=unacceptable,
        ),
    )
    assert {timing.verdict for timing in report.performance.timings} == {verdict}
    assert (report.status, report.is_ready) == (status, status is not Status.FAILED)
    told = [finding.about for finding in report.performance.findings]
    assert told == (QUESTIONS if verdict in {Verdict.SLOW, Verdict.UNACCEPTABLE} else [])


def test_the_limits_are_those_that_were_published() -> None:
    published = {
        name: (each.target_from_ms, each.target_ms, each.acceptable_ms, each.unacceptable_ms)
        for name, each in LIMITS.items()
    }
    assert published == {
        "gross_margin": (50, 200, 500, 500),
        "provider_costs": (100, 300, 700, 700),
        "margin_trend": (200, 500, 1_000, 1_000),
        "cost_distribution": (300, 600, 1_200, 1_200),
    }


@dataclass(frozen=True, slots=True)
class Damage:
    """What somebody did, and what the report then names, with these words."""

    name: str
    done: str
    about: str
    words: str

    def __str__(self) -> str:
        return self.name


DAMAGES = [
    Damage(
        "dropped_column",
        "ALTER TABLE ledger.token_usage_ledger DROP COLUMN gross_margin_usd CASCADE",
        "token_usage_ledger",
        "the column gross_margin_usd is missing",
    ),
    Damage(
        "changed_type",
        "DROP VIEW ledger.visible_usage;"
        "ALTER TABLE ledger.token_usage_ledger ALTER COLUMN latency_ms TYPE bigint",
        "token_usage_ledger",
        "the column latency_ms is bigint; it should be integer",
    ),
    Damage(
        "null_allowed",
        "ALTER TABLE ledger.token_usage_ledger ALTER COLUMN status DROP NOT NULL",
        "token_usage_ledger",
        "the column status is text; it should be text NOT NULL",
    ),
    Damage(
        "dropped_table",
        "DROP TABLE ledger.token_usage_ledger CASCADE",
        "token_usage_ledger",
        "the table is missing",
    ),
    Damage(
        "dropped_index",
        "DROP INDEX ledger.idx_token_usage_success",
        "idx_token_usage_success",
        "the index is missing",
    ),
    Damage(
        "invalid_index",
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = 'ledger.idx_token_usage_success'::regclass",
        "idx_token_usage_success",
        "the index is INVALID",
    ),
    Damage(
        "other_columns",
        "DROP INDEX ledger.idx_token_usage_project; CREATE INDEX idx_token_usage_project"
        " ON ledger.token_usage_ledger (created_at DESC, project_id) INCLUDE (status)"
        " WHERE project_id IS NOT NULL",
        "idx_token_usage_project",
        "the index is on (created_at DESC, project_id) INCLUDE (status);"
        " it should be on (project_id, created_at)",
    ),
    Damage(
        "no_where",
        "DROP INDEX ledger.idx_token_usage_unpriced; CREATE INDEX idx_token_usage_unpriced"
        " ON ledger.token_usage_ledger (created_at)",
        "idx_token_usage_unpriced",
        "the index should be partial",
    ),
    Damage(
        "other_where",
        "DROP INDEX ledger.idx_token_usage_unpriced; CREATE INDEX idx_token_usage_unpriced"
        " ON ledger.token_usage_ledger (created_at) WHERE pricing_status = 'priced'",
        "token_usage_ledger",
        "index idx_token_usage_unpriced is CREATE INDEX",
    ),
    Damage(
        "disabled_guard",
        "ALTER TABLE ledger.token_usage_ledger DISABLE TRIGGER token_usage_ledger_adds_to_sums",
        "token_usage_deltas",
        "trigger token_usage_ledger_adds_to_sums on token_usage_ledger is disabled",
    ),
    Damage(
        "strange_trigger",
        "CREATE TRIGGER rogue BEFORE INSERT ON ledger.users FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "users",
        "nobody declared the trigger rogue",
    ),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_what_was_damaged_fails_and_is_named_once(
    owner: Database, at: tuple[str, str], damage: Damage
) -> None:
    for statement in damage.done.split(";"):
        owner.sql(statement)
    ran = run(*COMMAND, *at)
    assert ran.exit_code == 1
    assert damage.words in ran.out
    assert "Failed, with " in ran.out
    told = run(*COMMAND, "--json", *at)
    assert told.exit_code == 1
    report = told.json()
    assert (report["status"], report["is_ready"]) == ("failed", False)
    findings = [
        finding for task in ("schema", "indexes", "data") for finding in report[task]["findings"]
    ]
    named = [
        finding
        for finding in findings
        if finding["about"] == damage.about and damage.words in finding["words"]
    ]
    assert [finding["severity"] for finding in named] == ["failure"]


@pytest.mark.parametrize(
    "done, difference, said",
    [
        (
            "DROP TABLE ledger.token_usage_days",
            "table token_usage_days is missing",
            'relation "ledger.token_usage_days" does not exist',
        ),
        (
            "ALTER TABLE ledger.token_usage_days ALTER COLUMN requests TYPE text",
            "column requests is text NOT NULL; it should be bigint NOT NULL",
            "function sum(text) does not exist",
        ),
    ],
)
def test_what_cannot_be_answered_any_more_fails(
    books: Books, owner: Database, done: str, difference: str, said: str
) -> None:
    owner.sql(done)
    report = verified(books.url)
    unanswered = {
        timing.question
        for timing in report.performance.timings
        if timing.verdict is Verdict.UNANSWERED
    }
    assert unanswered
    assert {failures(report)[question] for question in unanswered} == {
        f"cannot be answered: {said}"
    }
    assert difference in failures(report)["token_usage_deltas"]


def test_data_that_cannot_be_counted_fails(books: Books, owner: Database) -> None:
    owner.sql("ALTER TABLE ledger.token_usage_ledger DROP COLUMN pricing_status CASCADE")
    report = verified(books.url)
    assert failures(report)["data"].startswith("cannot be counted: ")
    assert {timing.reason for timing in report.performance.timings} == {"the data was not counted"}


def test_an_index_without_use_is_a_warning_once_that_means_something(books: Books) -> None:
    at_once = verified(books.url, unused_after=UnusedAfter(observed=timedelta(0), rows=1))
    idle = {finding.about for finding in at_once.indexes.findings}
    assert "idx_token_usage_project" in idle
    assert not idle & {index.name for index in declared_indexes() if index.is_of_constraint}
    assert at_once.status is Status.WARNINGS
    for later in (
        UnusedAfter(observed=timedelta(days=365_000), rows=1),
        UnusedAfter(observed=timedelta(0), rows=6),
    ):
        assert verified(books.url, unused_after=later).indexes.findings == ()


@pytest.mark.usefixtures("books")
def test_json_has_what_is_printed(at: tuple[str, str]) -> None:
    report = run(*COMMAND, "--json", *at).json()
    printed = run(*COMMAND, *at).out
    for column in report["schema"]["columns"]:
        assert (column["name"] in printed) >= (column["purpose"] is not None)
    for index in report["indexes"]["indexes"]:
        assert index["name"] in printed
        assert (index["where"] or "") in printed
    assert f"{report['data']['rows']}, counted" in printed
    assert PASSWORD not in printed
    assert report["data"]["first_created_at"] == (NOW - timedelta(days=3)).isoformat().replace(
        "+00:00", "Z"
    )


def test_the_script_is_the_command(database_url: str) -> None:
    unset = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment = {**unset, "LEDGER_DATABASE_URL": database_url}

    def facts(report: Any) -> Any:
        return {name: report[name] for name in ("status", "role", "schema", "data", "performance")}

    script = subprocess.run(
        [sys.executable, SCRIPT, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    command = succeed(*COMMAND, "--json", environment={"LEDGER_DATABASE_URL": database_url}).json()
    assert facts(json.loads(script.stdout)) == facts(command)


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("kind", ["auditor", "service"])
def test_a_granted_role_verifies_and_is_told_what_it_may_not_compare(
    roles: Roles, kind: str
) -> None:
    report = verified(roles.granted(kind).url)
    assert report.status is Status.READY
    assert {timing.verdict for timing in report.performance.timings} == {Verdict.ON_TARGET}
    assert (report.data.rows, report.data.unfolded_deltas) == (5, 5)
    (unseen,) = report.schema.findings
    assert unseen.severity is Severity.NOTE
    assert "`ledger db check` as the owner" in unseen.words


@pytest.mark.usefixtures("books")
def test_a_role_that_sees_no_rows_is_told_so(roles: Roles, owner: Database) -> None:
    role = roles.granted("writer")
    ran = succeed(*COMMAND, "--database-url", role.url)
    assert f"the role {role.name} does not see every row" in ran.out
    assert ran.out.count("skipped: the data was not counted") == 4
    owner.sql(f'GRANT SELECT ON ledger.token_usage_ledger TO "{role.name}"')
    assert verified(role.url).data.rows is None, "no policy shows it any row"


@pytest.mark.usefixtures("books")
def test_a_role_that_may_not_ask_is_told_so(roles: Roles, owner: Database) -> None:
    role = roles.granted("auditor")
    owner.sql(f'REVOKE SELECT ON ledger.token_usage_deltas FROM "{role.name}"')
    report = verified(role.url)
    assert report.status is Status.WARNINGS
    assert report.data.unfolded_deltas is None
    assert {timing.verdict for timing in report.performance.timings} == {Verdict.SKIPPED}
    ran = succeed(*COMMAND, "--database-url", role.url)
    assert "not seen by this role" in ran.out


def test_an_empty_database_says_what_to_run(empty_database_url: str) -> None:
    ran = run(*COMMAND, "--database-url", empty_database_url)
    assert ran.exit_code == 3
    assert "ledger db upgrade" in ran.err


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach, which pytest's own may not be."""
    with TemporaryDirectory(prefix="ledger-tests-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path, "books")


def test_a_folder_is_verified_as_it_is_and_not_migrated_first(folder: Path) -> None:
    ran = run(*COMMAND, "--embedded", folder)
    assert ran.exit_code == 3
    assert "ledger db upgrade" in ran.err
    succeed("--embedded", folder, "db", "upgrade")
    assert "Ready, with 1 warning." in succeed("--embedded", folder, *COMMAND).out


def test_a_role_without_a_grant_is_told_what_gives_it(roles: Roles) -> None:
    ran = run(*COMMAND, "--database-url", roles.create().url)
    assert ran.exit_code == 3
    assert "ledger db grant" in ran.err
