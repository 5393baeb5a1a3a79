"""Runs of a window: which are asked for, and how they are read by the index that has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import (
    CTE,
    Subquery,
    func,
    literal_column,
    select,
    true,
)

from ledger.errors import InvalidArgument
from ledger.queries.columns import END, START
from ledger.queries.execution_filters import RUNS, WINDOW, restricted
from ledger.queries.scope import asked_window, named, uuid_of
from ledger.records.refusal import shown
from ledger.records.tokens import GREATEST_COUNT
from ledger.window import Interval, Window

_HELD: Final = ("project_id", "agent_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRuns:
    """The runs that ended in a window: of a project, of an agent, where they are named."""

    window: Window
    project_id: UUID | None
    agent_id: str | None

    @classmethod
    def of(
        cls,
        window: Interval | str | Window,
        *,
        at: datetime | None,
        now: datetime,
        project_id: UUID | str | None,
        agent_id: str | None = None,
    ) -> AskedRuns:
        """The same of a caller's arguments. Raises InvalidArgument, naming the wrong one."""
        return cls(
            window=asked_window(window, at=at, now=now),
            project_id=None if project_id is None else uuid_of(project_id, "project_id"),
            agent_id=named(agent_id, "agent_id"),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are held to a value each."""
        return tuple(name for name in _HELD if getattr(self, name) is not None)

    @property
    def parameters(self) -> dict[str, object]:
        """What the restrictions bind."""
        values: dict[str, object] = {name: getattr(self, name) for name in self.columns}
        return {START.key: self.window.start, END.key: self.window.end, **values}


def _agents() -> CTE:
    following = RUNS.alias("following")
    agents = select(func.min(RUNS.c.agent_id).label("agent_id")).cte("agents", recursive=True)
    after = select(func.min(following.c.agent_id)).where(following.c.agent_id > agents.c.agent_id)
    return agents.union_all(select(after.scalar_subquery()).where(agents.c.agent_id.is_not(None)))


_AGENTS: Final = _agents()
"""Every agent that has runs, each found by one look into the index that begins with it."""


def runs(held: tuple[str, ...], *read: str) -> Subquery:
    """The runs of the window in which some columns are held, and what is read of each.

    Of a project, or of an agent, they lie together in an index that covers what is summed. Of
    all they do not, as none is by time alone: they are then read agent by agent, which reads
    the window and not the years before it.
    """
    found = select(*(RUNS.c[name] for name in read)).where(*restricted((WINDOW, *held)))
    if held:
        return found.subquery("runs")
    # Behind an OFFSET, or some planners find another index whose beginning they skip.
    of_agent = found.where(RUNS.c.agent_id == _AGENTS.c.agent_id).offset(literal_column("0"))
    each = of_agent.lateral("of_agent")
    return select(*each.c).select_from(_AGENTS.join(each, true())).subquery("runs")


def require_limit(limit: object) -> None:
    """Raise InvalidArgument for what is no number of things to list."""
    if type(limit) is not int or not 1 <= limit <= GREATEST_COUNT:
        raise InvalidArgument(f"limit {shown(limit)} is not a whole number of at least 1")
