"""Every index of the token usage ledger is used by what it stands for, and no read scans it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from ledger import Ledger, Window
from ledger.engine import engine
from ledger.write.repricing_statements import BOOKED_CALLS
from scripts.benchmarks.billing_load import introduce, load
from tests.databases import Databases, Target
from tests.ledgers import CORRECT
from tests.plans import Plan, explained, explained_read
from tests.sent import Sent, sent_by_reads
from tests.writers import sql, superuser

END = datetime(2026, 11, 10, 12, 34, tzinfo=UTC)
MONTH = Window(start=END - timedelta(days=30), end=END)
USER, PROJECT = UUID(int=3), UUID(int=9)
TABLE = "token_usage_ledger"
OF_CORRECTIONS = {
    "idx_token_usage_corrections",
    "idx_token_usage_restated",
    "idx_token_usage_corrected",
}


@pytest.fixture(scope="module")
def filled_url(databases: Databases, target: Target) -> Iterator[str]:
    """Thirty thousand calls over 90 days, of which one in a hundred is for a project."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    own = engine(url)
    with Ledger.connect(url) as ledger:
        introduce(ledger)
        ledger.tenancy.upsert_project("a project", id=PROJECT)
        load(own, 30_000, end=END)
        ledger.billing.record_usages(
            {
                "user_id": UUID(int=1 + number % 200),
                "request_id": f"project-{number}",
                "created_at": END - timedelta(minutes=number),
                "provider": "provider-1",
                "model": "model-1",
                "project_id": PROJECT,
                "vendor_cost": "0.01",
            }
            for number in range(300)
        )
        sql(url, CORRECT)
        ledger.maintenance.run()
    own.dispose()
    sql(url, "VACUUM ANALYZE")
    yield url
    databases.drop(name)


def plan_of(url: str, ask: Callable[[Ledger], object]) -> Plan:
    with Ledger.connect(url) as ledger, sent_by_reads() as sent:
        ask(ledger)
    with superuser(url) as connection:
        return explained_read(connection, sent[-1])


@pytest.mark.parametrize(
    "index, ask",
    [
        ("idx_token_usage_success", lambda ledger: ledger.billing.gross_margin(MONTH)),
        ("idx_token_usage_success", lambda ledger: ledger.billing.provider_costs(MONTH)),
        ("idx_token_usage_unsuccessful", lambda ledger: ledger.billing.provider_costs(MONTH)),
        (
            "idx_token_usage_unsuccessful",
            lambda ledger: ledger.billing.gross_margin(MONTH, status="failed"),
        ),
        (
            "idx_token_usage_success",
            lambda ledger: ledger.billing.margin_trend(MONTH, timezone="Asia/Kathmandu"),
        ),
        (
            "idx_token_usage_analytics",
            lambda ledger: ledger.billing.gross_margin(MONTH, user_id=USER),
        ),
        (
            "token_usage_user_days_user_id_idx",
            lambda ledger: ledger.billing.gross_margin(MONTH, user_id=USER),
        ),
        ("idx_token_usage_analytics", lambda ledger: ledger.billing.user_costs(MONTH)),
        (
            "idx_token_usage_project",
            lambda ledger: ledger.billing.gross_margin(MONTH, project_id=PROJECT),
        ),
        ("idx_token_usage_corrections", lambda ledger: ledger.billing.gross_margin(MONTH)),
        (
            "idx_token_usage_restated",
            lambda ledger: ledger.billing.gross_margin(MONTH, restated=True),
        ),
        ("idx_token_usage_success", lambda ledger: ledger.billing.cost_distribution(MONTH)),
    ],
)
def test_a_read_uses_its_index_and_scans_nothing(
    filled_url: str, index: str, ask: Callable[[Ledger], object]
) -> None:
    plan = plan_of(filled_url, ask)
    assert index in plan.indexes, str(plan)
    assert TABLE not in plan.read_in_full, str(plan)


@pytest.mark.parametrize(
    "ask",
    [
        lambda ledger: ledger.billing.gross_margin(MONTH),
        lambda ledger: ledger.billing.provider_costs(MONTH),
        lambda ledger: ledger.billing.gross_margin(MONTH, user_id=USER),
        lambda ledger: ledger.billing.user_costs(MONTH),
    ],
    ids=["margin", "providers", "one user", "users"],
)
def test_the_indexes_cover_what_is_summed(filled_url: str, ask: Callable[[Ledger], object]) -> None:
    """Nothing is looked up in the table but corrections."""
    plan = plan_of(filled_url, ask)
    looked_up = [
        node["Index Name"]
        for node in plan.nodes()
        if node["Node Type"] == "Index Scan" and node.get("Relation Name") == TABLE
    ]
    assert set(looked_up) <= OF_CORRECTIONS, str(plan)


def test_a_repricing_reads_its_calls_in_order_by_index(filled_url: str) -> None:
    compiled = BOOKED_CALLS.compile(dialect=PGDialect_psycopg())  # type: ignore[no-untyped-call]
    values: dict[str, Any] = {"moment": MONTH.start, "last": UUID(int=0), "end": END, "limit": 100}
    with superuser(filled_url) as connection:
        plan = explained_read(
            connection, Sent(compiled.string.encode(), {**compiled.params, **values})
        )
    wanted = {
        "idx_token_usage_success",
        "idx_token_usage_unsuccessful",
        "idx_token_usage_corrected",
    }
    assert wanted <= plan.indexes, str(plan)
    assert TABLE not in plan.read_in_full


def test_what_is_stored_under_a_key_is_found_by_it(filled_url: str) -> None:
    with superuser(filled_url) as connection:
        found = explained(
            connection,
            "SELECT * FROM ledger.token_usage_ledger WHERE user_id = %s AND request_id = %s",
            UUID(int=3),
            "project-2",
        )
    assert found.indexes == {"token_usage_ledger_user_id_request_id_key"}
