"""A tree holds the run and all that it triggered, each once, however the runs were recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from ledger import InvalidArgument, Ledger
from ledger.queries.execution_trees import MOST_RUNS, TooManyRuns
from ledger.records.execution_trees import ExecutionNode, ExecutionTree
from tests.audits import ALICE, BOB, OTHER_PROJECT, PROJECT, audited, execution
from tests.databases import Databases, Target
from tests.ledgers import ledger_at
from tests.plans import explained_read
from tests.roles import roles_of
from tests.sent import sent_by_reads
from tests.writers import Kind, sql, stop_jobs, superuser

MORNING = datetime(2026, 3, 1, 8, tzinfo=UTC)


def run(run_id: str, parent: str | None = None, minute: int = 0, **what_matters: Any) -> Any:
    """A run that was triggered by another, some minutes after the morning began."""
    created_at = MORNING + timedelta(minutes=minute)
    return execution(run_id, parent_run_id=parent, created_at=created_at, **what_matters)


def forest() -> Iterator[dict[str, Any]]:
    """Runs in an order that says nothing, with parents missing and in circles."""
    chance = Random(3)
    names = [f"run {number}" for number in range(200)]
    parents: dict[str, str | None] = {
        name: chance.choice([None, "never recorded", *names[:number][-20:]])
        for number, name in enumerate(names)
    }
    # A circle of three with what hangs on it, and one of two.
    parents |= {"run 0": "run 9", "run 9": "run 8", "run 8": "run 0"}
    parents |= {"run 100": "run 101", "run 101": "run 100"}
    minutes = chance.sample(range(10_000), len(names))
    for name, minute in chance.sample([*zip(names, minutes, strict=True)], len(names)):
        yield run(
            name,
            parents[name],
            minute,
            project_id=chance.choice([PROJECT, OTHER_PROJECT]),
            user_id=chance.choice([ALICE, BOB]),
            agent_id=chance.choice(["backend", "frontend"]),
            cost={"total": Decimal(chance.randrange(10**18)) / 10**12},
            status=chance.choice(["completed", "failed", "aborted"]),
            trace={"duration_ms": chance.randrange(10**6)},
        )


FOREST = {each["run_id"]: each for each in forest()}


def tree_of(root: str, levels: int, top: str | None = None) -> ExecutionTree:
    """The same of FOREST, by looking through all of it for each run."""
    this = FOREST[root]
    below = sorted(
        (
            each
            for each in FOREST.values()
            if each["parent_run_id"] == root and each["run_id"] != (top or root)
        ),
        key=lambda each: each["created_at"],
    )
    children = [tree_of(each["run_id"], levels - 1, top or root) for each in below if levels]
    return ExecutionTree(
        run=ExecutionNode(
            **{name: this[name] for name in ("run_id", "parent_run_id", "agent_id", "project_id")},
            status=this["status"],
            total_cost_cents=this["cost"]["total"],
            duration_ms=this["trace"]["duration_ms"],
            created_at=this["created_at"],
        ),
        children=tuple(children),
        subtree_cost_cents=sum(
            (child.subtree_cost_cents for child in children), this["cost"]["total"]
        ),
        subtree_runs=1 + sum(child.subtree_runs for child in children),
        is_cut=any(child.is_cut for child in children) if levels else bool(below),
    )


@pytest.fixture(scope="module")
def filled_url(databases: Databases, target: Target) -> Iterator[str]:
    """A forest, recorded in batches; tests only read it."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    stop_jobs(url)
    with audited(url) as ledger:
        ledger.audit.record_executions(FOREST.values(), batch_size=7)
    yield url
    databases.drop(name)


def found(ledger: Ledger, run_id: str, **how: Any) -> ExecutionTree:
    tree = ledger.audit.execution_tree(run_id, **how)
    assert tree is not None
    return tree


def runs_of(tree: ExecutionTree) -> Iterator[ExecutionNode]:
    yield tree.run
    for child in tree.children:
        yield from runs_of(child)


@pytest.mark.parametrize("depth", [1, 2, 5, 100])
def test_a_tree_is_what_looking_through_all_runs_finds(ledger: Ledger, depth: int) -> None:
    for name in FOREST:
        assert found(ledger, name, depth=depth) == tree_of(name, depth)


def test_a_tree_goes_twenty_levels_down(empty: Ledger) -> None:
    empty.audit.record_executions(run(f"{n}", f"{n - 1}" if n else None, n) for n in range(23))
    tree = found(empty, "0")
    assert (tree.subtree_runs, tree.is_cut) == (21, True)
    assert found(empty, "2").subtree_runs == 21
    assert not found(empty, "2").is_cut


@pytest.mark.parametrize("root", ["run 0", "run 8", "run 9"])
def test_runs_in_a_circle_are_each_there_once(ledger: Ledger, root: str) -> None:
    tree = found(ledger, root, depth=100)
    names = [node.run_id for node in runs_of(tree)]
    assert len(names) == len(set(names)) == tree.subtree_runs
    assert {"run 0", "run 8", "run 9"} <= set(names)
    assert tree.run.run_id == root
    assert not tree.is_cut


def test_a_run_that_nobody_recorded_has_no_tree(empty: Ledger) -> None:
    empty.audit.record_execution(run("child", "nobody"))
    assert empty.audit.execution_tree("nobody") is None
    assert empty.audit.execution_tree("") is None
    assert found(empty, "child").run.parent_run_id == "nobody"


def test_a_run_that_triggered_nothing_is_a_tree(empty: Ledger) -> None:
    empty.audit.record_execution(run("only", cost={"total": "1.25"}))
    tree = found(empty, "only")
    assert (tree.children, tree.subtree_runs, tree.is_cut) == ((), 1, False)
    assert tree.subtree_cost_cents == Decimal("1.25")
    assert tree.run.created_at == MORNING


def test_children_may_be_recorded_before_what_triggered_them(empty: Ledger) -> None:
    for each in (run("grandchild", "child", 1), run("child", "root", 2), run("root", None, 3)):
        empty.audit.record_execution(each)
    assert [node.run_id for node in runs_of(found(empty, "root"))] == [
        "root",
        "child",
        "grandchild",
    ]


def test_children_come_oldest_first(empty: Ledger) -> None:
    empty.audit.record_executions([run("root"), *(run(f"at {n}", "root", n) for n in (5, 1, 9, 3))])
    children = [child.run.run_id for child in found(empty, "root").children]
    assert children == ["at 1", "at 3", "at 5", "at 9"]


def test_costs_are_exact_however_great(empty: Ledger) -> None:
    most = Decimal("999999999999.999999999999")
    empty.audit.record_executions(
        run(f"{n}", "0" if n else None, n, cost={"total": most}, trace={"duration_ms": 2**63 - 1})
        for n in range(101)
    )
    tree = found(empty, "0")
    assert tree.subtree_cost_cents == Decimal("100999999999999.999999999899")
    assert tree.children[0].run.duration_ms == 2**63 - 1


def test_an_erased_run_keeps_its_place_and_its_cost(empty: Ledger) -> None:
    runs = [run("root"), run("child", "root", 1), run("grandchild", "child", 2)]
    empty.audit.record_executions(runs)
    before = found(empty, "root")
    empty.audit.erase_payload("child", "a request")
    assert found(empty, "root") == before


def test_the_deepest_tree_can_be_written_and_compared(empty: Ledger) -> None:
    empty.audit.record_executions(run(f"{n}", f"{n - 1}" if n else None, n) for n in range(102))
    tree = found(empty, "0", depth=100)
    assert (tree.subtree_runs, tree.is_cut) == (101, True)
    assert tree == found(empty, "0", depth=100)
    assert len({tree, tree}) == 1
    assert repr(tree).count("ExecutionTree(") == 101
    assert json.dumps(tree.to_dict()).count('"total_cost_cents": "1.5"') == 101


def test_what_a_role_may_not_see_is_not_there_nor_what_that_triggered(
    database_url: str, kind: Kind
) -> None:
    stop_jobs(database_url)
    runs = [
        run("root", None, 1, user_id=ALICE),
        run("own", "root", 2, user_id=ALICE),
        run("another's", "root", 3, user_id=BOB),
        run("own, below another's", "another's", 4, user_id=ALICE),
    ]
    with audited(database_url, *runs), roles_of(database_url) as roles:
        reader = roles.granted("reader", [ALICE])
        with ledger_at(reader.url, kind) as own:
            tree = found(own, "root")
            assert [node.run_id for node in runs_of(tree)] == ["root", "own"]
            assert own.audit.execution_tree("another's") is None


@pytest.fixture(scope="module")
def many_url(databases: Databases, target: Target) -> Iterator[str]:
    """As many runs as an answer may have, one below the other or beside it, and one deeper."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    stop_jobs(url)
    with audited(url) as ledger:
        ledger.audit.record_executions(
            [
                run("root"),
                *(run(f"{n}", "root", n) for n in range(1, MOST_RUNS)),
                run("deeper", "5", MOST_RUNS),
            ]
        )
    sql(url, "VACUUM ANALYZE ledger.execution_ledger")
    yield url
    databases.drop(name)


def test_a_tree_holds_ten_thousand_runs_and_no_more(many_url: str, kind: Kind) -> None:
    with ledger_at(many_url, kind) as ledger:
        tree = found(ledger, "root", depth=1)
        assert (tree.subtree_runs, tree.is_cut) == (MOST_RUNS, True)
        assert [child.run.run_id for child in tree.children if child.is_cut] == ["5"]
        with pytest.raises(
            TooManyRuns,
            match=r"run 'root' has, .* depth 2, more than 10,000 runs, .*; ask for less depth",
        ) as refused:
            ledger.audit.execution_tree("root", depth=2)
        assert isinstance(refused.value, InvalidArgument)
        assert found(ledger, "5").subtree_runs == 2


@pytest.mark.parametrize("root", ["root", "5"])
def test_a_tree_is_found_by_the_index_of_parents(many_url: str, root: str) -> None:
    """Also where one run is the parent of nearly all."""
    with ledger_at(many_url) as ledger, sent_by_reads() as sent:
        found(ledger, root, depth=1)
    with superuser(many_url) as connection:
        plan = explained_read(connection, sent[-1])
    assert {"execution_ledger_run_id_key", "idx_execution_ledger_parent"} <= plan.indexes, str(plan)
    assert "execution_ledger" not in plan.read_in_full
    assert len(sent) == 2  # the first asks for the context


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"run_id": None}, "run_id None is not a str; name the run at the top"),
        ({"run_id": 7}, "run_id 7 is not a str"),
        ({"run_id": "a\0b"}, "holds a character that no text can"),
        ({"depth": 0}, "depth 0 is not a whole number from 1 to 100; for what lies deeper ask"),
        ({"depth": 101}, "depth 101 is not a whole number from 1 to 100"),
        ({"depth": True}, "depth True is not a whole number"),
        ({"depth": 2.0}, "depth 2.0 is not a whole number"),
        ({"depth": "5"}, "depth '5' is not a whole number"),
        ({"depth": 10**5_000}, "depth <int> is not a whole number"),
    ],
)
def test_a_wrong_argument_is_named(filled_url: str, wrong: dict[str, Any], words: str) -> None:
    with ledger_at(filled_url) as ledger, pytest.raises(InvalidArgument, match=words):
        ledger.audit.execution_tree(**{"run_id": "run 1", **wrong})
