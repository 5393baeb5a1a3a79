"""What runs cost is shared out by the rules, and adds up, whatever the rules ask for."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest

from ledger import InvalidArgument, Ledger, Window
from ledger.records.allocation import AllocatedCost, AllocationRule, CostAllocation
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
}
MOST = Decimal("999999999999.999999999999")
UNIT = Fraction(1, 10**12)

RULES: dict[str, list[AllocationRule]] = {
    "none": [],
    "one for all": [AllocationRule(to="all")],
    "thirds": [AllocationRule(to=to) for to in ("first", "second", "third")],
    "by agent": [
        AllocationRule(to="a", share=Decimal("0.123456789"), agent_id="backend"),
        AllocationRule(to="b", agent_id="backend"),
        AllocationRule(to="c", agent_id="frontend"),
    ],
    "by user": [AllocationRule(to="alice", user_id=ALICE), AllocationRule(to="bob", user_id=BOB)],
    "by project, then all else": [
        AllocationRule(to="projects", project_id=PROJECT),
        AllocationRule(to="rest", share=Decimal("0.3")),
        AllocationRule(to="more rest", share=Decimal("0.7")),
    ],
    "of everything": [
        AllocationRule(to="narrow", agent_id="backend", project_id=PROJECT, user_id=ALICE),
        AllocationRule(to="twice", agent_id="backend", user_id=BOB),
        AllocationRule(to="half", share=Decimal("0.5"), project_id=OTHER_PROJECT),
        AllocationRule(to="twice", project_id=OTHER_PROJECT),
    ],
}


def run(run_id: str, cents: Any = 1, **what_matters: Any) -> Any:
    """A run of an hour before the end."""
    return execution(
        run_id,
        cost={"total": cents},
        **{"created_at": END - timedelta(hours=1), "agent_id": "backend", **what_matters},
    )


def random_runs() -> Iterator[dict[str, Any]]:
    chance = Random(17)
    for number in range(300):
        yield run(
            f"run {number}",
            Decimal(chance.randrange(10**15)) / 10**12,
            project_id=chance.choice([PROJECT, OTHER_PROJECT]),
            user_id=chance.choice([ALICE, BOB]),
            agent_id=chance.choice(["backend", "frontend", "researcher"]),
            created_at=END - timedelta(seconds=chance.randrange(6 * 86_400)),
            status=chance.choice(["completed", "failed", "aborted"]),
        )


RUNS = list(random_runs())


def matches(rule: AllocationRule, each: dict[str, Any]) -> bool:
    names = ("agent_id", "project_id", "user_id")
    return all(getattr(rule, name) in {None, each[name]} for name in names)


def assert_allocated(
    found: CostAllocation, rules: Sequence[AllocationRule], runs: Sequence[dict[str, Any]]
) -> None:
    """Each bears what the rules give him run by run, within a last digit a condition."""
    parts: dict[str, Fraction] = defaultdict(Fraction)
    nobodys = []
    for each in runs:
        first = next((rule for rule in rules if matches(rule, each)), None)
        if first is None:
            nobodys.append(each)
            continue
        group = [rule for rule in rules if rule.condition == first.condition]
        said = sum((Fraction(rule.share) for rule in group if rule.share is not None), Fraction(0))
        silent = [rule for rule in group if rule.share is None]
        for rule in group:
            share = (1 - said) / len(silent) if rule.share is None else Fraction(rule.share)
            parts[rule.to] += share * Fraction(each["cost"]["total"])

    borne = {each.to: Fraction(each.cost_cents) for each in found.allocations}
    total = sum((Fraction(each["cost"]["total"]) for each in runs), Fraction(0))
    assert borne.keys() == {rule.to for rule in rules}
    assert all(abs(borne[to] - parts[to]) < UNIT * len(rules) for to in borne)
    assert Fraction(found.total_cents) == total
    assert sum(borne.values()) + Fraction(found.unallocated_cents) == total
    assert Fraction(found.unallocated_cents) == sum(
        (Fraction(each["cost"]["total"]) for each in nobodys), Fraction(0)
    )
    assert (found.runs, found.unallocated_runs) == (len(runs), len(nobodys))


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


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_each_bears_what_the_rules_say(
    ledger: Ledger, window: Window, rules: list[AllocationRule]
) -> None:
    within = [each for each in RUNS if window.start <= each["created_at"] < window.end]
    found = ledger.audit.allocate_costs(rules, window)
    assert_allocated(found, rules, within)
    assert found.window == window

    found = ledger.audit.allocate_costs(rules, window, project_id=PROJECT)
    assert_allocated(found, rules, [each for each in within if each["project_id"] == PROJECT])


def test_without_runs_everybody_bears_nothing(empty: Ledger) -> None:
    for rules in RULES.values():
        assert_allocated(empty.audit.allocate_costs(rules, ALL), rules, [])


def test_one_run_is_shared_out_to_the_last_digit(empty: Ledger) -> None:
    empty.audit.record_execution(run("only", "0.000000000002"))
    found = empty.audit.allocate_costs(RULES["thirds"], ALL)
    assert found.allocations == (
        AllocatedCost(to="first", cost_cents=Decimal("1e-12")),
        AllocatedCost(to="second", cost_cents=Decimal("1e-12")),
        AllocatedCost(to="third", cost_cents=Decimal(0)),
    )
    assert json.dumps(found.to_dict()["allocations"][1]) == (
        '{"to": "second", "cost_cents": "0.000000000001"}'
    )


def test_erased_runs_cost_what_they_cost(empty: Ledger) -> None:
    empty.audit.record_executions([run("kept", "1.5"), run("erased", "2.25")])
    before = empty.audit.allocate_costs(RULES["by agent"], ALL)
    empty.audit.erase_payload("erased", "a request")
    assert empty.audit.allocate_costs(RULES["by agent"], ALL) == before
    assert before.total_cents == Decimal("3.75")


def test_costs_are_exact_however_great(empty: Ledger) -> None:
    runs = [run(f"{number}", MOST) for number in range(101)]
    empty.audit.record_executions(runs)
    found = empty.audit.allocate_costs(RULES["by agent"], ALL)
    assert found.total_cents == Decimal("100999999999999.999999999899")
    assert_allocated(found, RULES["by agent"], runs)


def test_an_interval_ends_at_a_moment_and_without_it(empty: Ledger) -> None:
    for hour in (0, 1, 24, 25):
        empty.audit.record_execution(run(f"at {hour}", created_at=END - timedelta(hours=hour)))
    assert empty.audit.allocate_costs([], "1D", at=END).runs == 2
    assert empty.audit.allocate_costs([], "1h", at=END).runs == 1
    assert empty.audit.allocate_costs([], "7D").runs == 0


def test_a_reader_shares_out_his_own_runs(filled_url: str, kind: Kind) -> None:
    with roles_of(filled_url) as roles:
        reader = roles.granted("reader", [ALICE])
        with ledger_at(reader.url, kind) as ledger:
            found = ledger.audit.allocate_costs(RULES["of everything"], ALL)
    own = [each for each in RUNS if each["user_id"] == ALICE]
    assert_allocated(found, RULES["of everything"], own)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize(
    "index, held",
    [("idx_execution_ledger_costs", {}), ("idx_execution_ledger_project", {"project_id": PROJECT})],
    ids=["everybody", "project"],
)
def test_only_a_covering_index_is_read(
    filled_url: str, index: str, held: dict[str, Any], rules: list[AllocationRule]
) -> None:
    hour = Window(start=END - timedelta(hours=2), end=END - timedelta(hours=1))
    with ledger_at(filled_url) as ledger, sent_by_reads() as sent:
        ledger.audit.allocate_costs(rules, hour, **held)
    with superuser(filled_url) as connection:
        plan = explained_read(connection, sent[-1])
    ways = {
        (node["Node Type"], node["Index Name"])
        for node in plan.nodes()
        if node.get("Relation Name") == "execution_ledger"
    }
    assert ways == {("Index Only Scan", index)}, str(plan)
    assert len(sent) == 2  # the first asks for the context


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"window": "2W"}, "'2W' is not an interval"),
        ({"window": ALL, "at": END}, "a Window ends where it says"),
        ({"project_id": "mine"}, "project_id 'mine' is not a UUID"),
        ({"rules": None}, "rules None are not a list of AllocationRule"),
        ({"rules": iter(())}, "rules <.*> are not a list of AllocationRule"),
        ({"rules": [{"to": "a"}]}, "{'to': 'a'} among the rules is not an AllocationRule"),
        (
            {"rules": [AllocationRule(to="a", share=Decimal("0.9"), agent_id="x")]},
            "the shares of the rules for agent_id x add up to 0.9, not to 1; correct them",
        ),
    ],
)
def test_a_wrong_argument_is_named(filled_url: str, wrong: dict[str, Any], words: str) -> None:
    with ledger_at(filled_url) as ledger, pytest.raises(InvalidArgument, match=words):
        ledger.audit.allocate_costs(**{"rules": [], "window": "1D", **wrong})
