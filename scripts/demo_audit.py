"""What the demo does with agents' runs: records some, and changes one as nobody should.

python scripts/demo_audit.py record FOLDER
python scripts/demo_audit.py tamper FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from uuid import UUID

from sqlalchemy import create_engine, text

from ledger import BudgetExceeded, BudgetRates, Ledger, Run
from ledger.embedded import EmbeddedPostgres

PROJECT = UUID("7d1c2b1e-3c4f-4b52-8d63-2f1f8a6b9e22")
RATES = BudgetRates(
    input_cents_per_million=300,
    output_cents_per_million=1500,
    tool_call_cents="0.5",
    external_request_cents="0.1",
)
TASKS = {
    "backend": ("Deploy the user service", "build", "roll out", "check health"),
    "database": ("Migrate the schema", "back up", "migrate", "validate"),
    "research": ("Compare three vendors", "search", "read", "summarise"),
}


def record(folder: Path) -> None:
    """Runs of three agents, beside those that the folder has."""
    with Ledger.embedded(folder) as ledger:
        run_agents(ledger)


def run_agents(ledger: Ledger) -> None:
    """Three agents, the last of which wants more than it may spend."""
    ledger.tenancy.set_tier("pro", "1.5")
    user = ledger.tenancy.upsert_user(tier="pro", external_id="demo-user")
    ledger.tenancy.upsert_project("demo", id=PROJECT, external_id="demo-project")
    before = ledger.audit.project_execution_statistics(PROJECT).total_executions
    for number, (agent, (intent, *steps)) in enumerate(TASKS.items(), 1):
        run_id = f"demo-{before + number}"
        run = ledger.audit.execution(
            run_id,
            project_id=PROJECT,
            user_id=user,
            agent_id=agent,
            intent=intent,
            budget_cents=20,
            rates=RATES,
        )
        try:
            with run:
                act(run, steps, calls=number)
        except BudgetExceeded as exceeded:
            print(f"    {run_id}: {exceeded}")
        else:
            print(f"    {run_id}: {intent}, {run.budget.spent_cents} cents")


def act(run: Run, steps: list[str], calls: int) -> None:
    """Some steps, each with calls of a model and of a tool."""
    for action in steps:
        with run.step(action, tool=action.split(maxsplit=1)[0]) as step:
            tokens = sum(run.budget.account_tokens(4_000, 600) for _ in range(calls))
            step.cost_cents = tokens + run.budget.account_tool_call(step.tool or action)
            run.budget.require()
    run.output = {"done": True}


def tamper(folder: Path) -> None:
    """Make a run look cheaper, in the database of that folder."""
    with EmbeddedPostgres.start(folder) as server:
        make_cheaper(server.url)


def make_cheaper(url: str) -> None:
    """What somebody who administers the database could do to a run."""
    owner = create_engine(url)
    with owner.begin() as connection:
        connection.execute(text("ALTER TABLE ledger.execution_ledger DISABLE TRIGGER ALL"))
        connection.execute(
            text(
                "UPDATE ledger.execution_ledger SET cost_json = '{\"total\": 0.5}'"
                " WHERE run_id = 'demo-2'"
            )
        )
        connection.execute(text("ALTER TABLE ledger.execution_ledger ENABLE TRIGGER ALL"))
    owner.dispose()


if __name__ == "__main__":
    {"record": record, "tamper": tamper}[sys.argv[1]](Path(sys.argv[2]))
