"""A run and all that it triggered, as one tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Text,
    and_,
    bindparam,
    literal_column,
    select,
    true,
)

from ledger.errors import InvalidArgument
from ledger.models.audit import Execution
from ledger.queries.opening import SEEN_WIDTH, seen
from ledger.queries.query import AnySelect, Cells, Context, Query
from ledger.queries.scope import named
from ledger.records.amounts import exactly
from ledger.records.execution_trees import ExecutionNode, ExecutionTree
from ledger.records.refusal import shown
from ledger.window import utc

if TYPE_CHECKING:
    from sqlalchemy import CTE, FromClause

MOST_RUNS: Final = 10_000
MOST_LEVELS: Final = 100

_RUNS: Final = Execution.__table__
_FIELDS: Final = tuple(ExecutionNode.__dataclass_fields__)
_RUN_ID: Final = bindparam("run_id", type_=Text())
_DEPTH: Final = bindparam("depth", type_=Integer())
_LIMIT: Final = bindparam("limit", type_=BigInteger())
_ONE: Final[ColumnElement[int]] = literal_column("1")


class TooManyRuns(InvalidArgument):
    """The run triggered more runs than one answer may hold."""

    def __init__(self, run_id: str, depth: int, most: int) -> None:
        self.run_id, self.depth, self.most = run_id, depth, most
        super().__init__(
            f"run {run_id!r} has, with all that it triggered down to depth {depth}, more than"
            f" {most:,} runs, and an answer has at most {most:,}; ask for less depth, or for the"
            " trees of runs further down"
        )


def execution_tree(
    context: Context, run_id: str, *, depth: int = 20
) -> Query[ExecutionTree | None]:
    """A run and every run that it triggered, directly or not, with what they cost together.

    None where no run is recorded under ``run_id``. Of the runs below there are ``depth`` levels
    (1 to 100); where there are more, ``is_cut`` says so. A run belongs to the one that its
    ``parent_run_id`` names: one whose parent is not recorded is found only from itself. Where
    runs name one another in a circle, each is there once, below the one that was asked for.
    They may be of any project and agent; what a role may not see is not there, nor what that
    triggered. Costs are US cents, exact.

    Raises InvalidArgument; TooManyRuns, which is one, where there are more than 10,000 runs.
    """
    asked = named(run_id, "run_id")
    if asked is None:
        raise InvalidArgument("run_id None is not a str; name the run at the top of the tree")
    if type(depth) is not int or not 1 <= depth <= MOST_LEVELS:
        raise InvalidArgument(
            f"depth {shown(depth)} is not a whole number from 1 to {MOST_LEVELS}; for what lies"
            " deeper ask for the tree of a run down there"
        )

    def read(rows: Sequence[Cells]) -> ExecutionTree | None:
        # An empty answer is a row of NULLs, there to say what the statement saw.
        found = [row[SEEN_WIDTH:] for row in rows if row[SEEN_WIDTH] is not None]
        if len(found) > MOST_RUNS:
            raise TooManyRuns(asked, depth, MOST_RUNS)
        return _tree(found)

    return Query(
        statement=_STATEMENT,
        parameters={"run_id": asked, "depth": depth, "limit": MOST_RUNS + 1},
        read=read,
        context=context,
    )


@exactly
def _tree(rows: Sequence[Cells]) -> ExecutionTree | None:
    """The tree of runs that come level by level, each level oldest first."""
    tree = None
    children: dict[str | None, list[ExecutionTree]] = {}
    # From the bottom: a run's children are complete before it. Not by recursion, and the last
    # that is made is the root.
    for *values, has_deeper in reversed(rows):
        node = _node(values)
        below = tuple(reversed(children.pop(node.run_id, ())))
        tree = ExecutionTree(
            run=node,
            children=below,
            subtree_cost_cents=sum(
                (child.subtree_cost_cents for child in below), node.total_cost_cents
            ),
            subtree_runs=sum((child.subtree_runs for child in below), 1),
            is_cut=has_deeper or any(child.is_cut for child in below),
        )
        children.setdefault(node.parent_run_id, []).append(tree)
    return tree


def _node(values: Cells) -> ExecutionNode:
    found: dict[str, Any] = dict(zip(_FIELDS, values, strict=True))
    return ExecutionNode(**{**found, "created_at": utc(found["created_at"])})


def _triggered_by(run_id: ColumnElement[str], name: str) -> AnySelect:
    """The runs that name this one as their parent, but for the root of the tree.

    A run has one parent, so that on the way down it is met once. Only a root that is below
    itself would be met again, and all else with it, without end.
    """
    runs = _RUNS.alias(name)
    return select(*_columns(runs)).where(
        # Not by equality, of which the planner believes what is true of the average parent: where
        # a few have most runs, it would read all runs for each.
        runs.c.parent_run_id.between(run_id, run_id),
        runs.c.run_id != _RUN_ID,
    )


def _columns(runs: FromClause) -> list[ColumnElement[Any]]:
    return [runs.c.id, *(runs.c[name] for name in _FIELDS)]


def _tree_of() -> CTE:
    """The run at level 0, and those below, level by level."""
    root = select(*_columns(_RUNS), literal_column("0", Integer).label("level"))
    tree = root.where(_RUNS.c.run_id == _RUN_ID).cte("tree", recursive=True)
    # Behind an OFFSET, or it would be joined with all runs that there are.
    below = _triggered_by(tree.c.run_id, "run").offset(literal_column("0")).lateral("below")
    return tree.union_all(
        select(*below.c, tree.c.level + literal_column("1", Integer))
        .select_from(tree.join(below, true()))
        .where(tree.c.level < _DEPTH)
    )


def _statement() -> AnySelect:
    found, tree = seen(), _tree_of()
    # Of a recursive CTE no more is worked out than is read: the limit ends it.
    answer = select(*tree.c).limit(_LIMIT).subquery("answer")
    deeper = _triggered_by(answer.c.run_id, "deeper").with_only_columns(true()).limit(_ONE)
    has_deeper = and_(answer.c.level == _DEPTH, deeper.scalar_subquery().is_not(None))
    return (
        select(*found.c, *(answer.c[name] for name in _FIELDS), has_deeper.label("has_deeper"))
        .select_from(found.outerjoin(answer, true()))
        .order_by(answer.c.level, answer.c.created_at, answer.c.id)
    )


_STATEMENT: Final = _statement()
