"""The runs of the execution ledger: one of them, pages of a project's or an agent's, failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, bindparam, func, null, select, true

from ledger.errors import InvalidArgument
from ledger.queries.execution_filters import (
    READ,
    RUNS,
    UNSUCCESSFUL,
    ExecutionFilter,
    columns_of,
    cursor_of,
    restricted,
)
from ledger.queries.opening import SEEN_WIDTH, seen
from ledger.queries.query import AnySelect, Cells, Context, Query
from ledger.queries.scope import required, uuid_of
from ledger.records.audit import ExecutionPage, ExecutionRecord
from ledger.records.execution import ExecutionStatus
from ledger.window import Window

MOST_A_PAGE: Final = 1_000
_GREATEST_OFFSET: Final = 2**63 - 1

_LIMIT: Final = bindparam("limit", type_=BigInteger())
_OFFSET: Final = bindparam("offset", type_=BigInteger())
_FIRST: Final = SEEN_WIDTH + 1
"""Where a run begins in a row, after what the statement saw and the total."""


def execution(context: Context, run_id: str) -> Query[ExecutionRecord | None]:
    """The run of that id, as it is stored; None where none is recorded, or none is visible.

    Raises InvalidArgument.
    """
    return Query(
        statement=_one(),
        parameters={"run_id": required(run_id, "run_id")},
        read=lambda rows: next(map(ExecutionRecord.of, _runs(rows)), None),
        context=context,
    )


def executions_by_project(  # noqa: PLR0913 - what a page is of, and which it is
    context: Context,
    project_id: UUID | str,
    *,
    status: ExecutionStatus | None = None,
    window: Window | None = None,
    limit: int = 50,
    offset: int = 0,
    after: str | None = None,
) -> Query[ExecutionPage]:
    """A page of a project's runs, newest first: by when they ended, then by id.

    There are at most ``limit`` of them, of 1 to 1,000. ``window`` is when they ended, and has
    its start and not its end. To read on, pass the page's ``next_cursor`` as ``after``: that
    takes no longer for the last page than for the first, and what is recorded in between neither
    repeats a run nor hides one. Or skip ``offset`` runs. The total is counted where ``after`` is
    None, which takes the longer the more there are (90 ms for 750,000).

    Raises InvalidArgument, naming the value that is wrong; a cursor of another question is not,
    since it is no more than a place in the order.
    """
    asked = ExecutionFilter(
        project_id=uuid_of(project_id, "project_id"), status=status, window=window
    )
    return _page(context, asked, limit, offset, after)


def executions_by_agent(  # noqa: PLR0913 - what a page is of, and which it is
    context: Context,
    agent_id: str,
    project_id: UUID | str | None = None,
    *,
    status: ExecutionStatus | None = None,
    window: Window | None = None,
    limit: int = 50,
    offset: int = 0,
    after: str | None = None,
) -> Query[ExecutionPage]:
    """A page of an agent's runs, newest first, of all projects or of one.

    The rest is as for `executions_by_project`. Raises InvalidArgument.
    """
    asked = ExecutionFilter(
        agent_id=required(agent_id, "agent_id"),
        project_id=project_id,
        status=status,
        window=window,
    )
    return _page(context, asked, limit, offset, after)


def failed_executions(
    context: Context, project_id: UUID | str | None = None, limit: int = 50
) -> Query[list[ExecutionRecord]]:
    """The last runs that failed or were aborted, newest first, of all projects or of one.

    There are at most ``limit`` of them, of 1 to 1,000. Raises InvalidArgument.
    """
    asked = ExecutionFilter(project_id=project_id)
    return Query(
        statement=_several((*asked.conditions, UNSUCCESSFUL), is_counted=False),
        parameters={**asked.parameters, _LIMIT.key: _limit(limit)},
        read=lambda rows: [ExecutionRecord.of(run) for run in _newest_first(rows)],
        context=context,
    )


def _page(
    context: Context, asked: ExecutionFilter, limit: int, offset: int, after: str | None
) -> Query[ExecutionPage]:
    limit = _limit(limit)
    if type(offset) is not int or not 0 <= offset <= _GREATEST_OFFSET:
        raise InvalidArgument(f"offset {offset!r} is not a whole number from 0")
    conditions, parameters = asked.conditions, {**asked.parameters, _OFFSET.key: offset}
    if after is not None:
        if offset:
            raise InvalidArgument(f"offset {offset} and after {after!r} exclude one another")
        conditions, parameters = asked.after(after)

    def read(rows: Sequence[Cells]) -> ExecutionPage:
        runs = _newest_first(rows)
        executions = tuple(map(ExecutionRecord.of, runs[:limit]))
        return ExecutionPage(
            executions=executions,
            total=rows[0][SEEN_WIDTH],
            next_cursor=cursor_of(executions[-1].id) if len(runs) > limit else None,
        )

    return Query(
        statement=_several(conditions, is_counted=after is None),
        # One more, to know whether there is another page.
        parameters={**parameters, _LIMIT.key: limit + 1},
        read=read,
        context=context,
    )


def _limit(given: int) -> int:
    if type(given) is not int or not 1 <= given <= MOST_A_PAGE:
        raise InvalidArgument(f"limit {given!r} is not a whole number from 1 to {MOST_A_PAGE:,}")
    return given


def _runs(rows: Sequence[Cells]) -> Iterator[Mapping[str, Any]]:
    # An empty answer is a row of NULLs, there to say what the statement saw.
    return (dict(zip(READ, row[_FIRST:], strict=True)) for row in rows if row[_FIRST] is not None)


def _newest_first(rows: Sequence[Cells]) -> list[Mapping[str, Any]]:
    # They come like this, and nothing says so: the server would sort payloads to promise it.
    return sorted(_runs(rows), key=lambda run: (run["created_at"], run["id"]), reverse=True)


@lru_cache
def _one() -> AnySelect:
    found, run = seen(), RUNS.alias("answer")
    is_it = run.c.run_id == bindparam("run_id", type_=RUNS.c.run_id.type)
    return select(*found.c, null().label("total"), *columns_of(run)).select_from(
        found.outerjoin(run, is_it)
    )


@lru_cache
def _several(conditions: tuple[str, ...], *, is_counted: bool) -> AnySelect:
    """The newest that match; where they are counted, after those that an offset skips.

    Which they are, an index alone says: it has all that is restricted, so that what is skipped
    is read nowhere else.
    """
    matching = restricted(conditions)
    page = (
        select(RUNS.c.id)
        .where(*matching)
        .order_by(RUNS.c.created_at.desc(), RUNS.c.id.desc())
        .limit(_LIMIT)
    )
    total: Any = null()
    if is_counted:
        page = page.offset(_OFFSET)
        total = select(func.count()).select_from(RUNS).where(*matching).scalar_subquery()
    found, answer, run = seen(), page.subquery("answer"), RUNS.alias("run")
    return select(*found.c, total.label("total"), *columns_of(run)).select_from(
        found.outerjoin(answer.join(run, run.c.id == answer.c.id), true())
    )
