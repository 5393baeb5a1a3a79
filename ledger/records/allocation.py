"""Rules by which costs of runs are shared out, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple
from uuid import UUID

from ledger.errors import InvalidArgument
from ledger.records.amounts import scaled
from ledger.records.plain import Record
from ledger.records.refusal import shown
from ledger.window import Window

_SHARE_DECIMALS: Final = 50
"""More than the 28 digits of a Decimal that was divided, and few enough to add exactly."""


class Condition(NamedTuple):
    """Which runs a rule is about: those that have all that is said; None is any."""

    agent_id: str | None = None
    project_id: UUID | None = None
    user_id: UUID | None = None

    def __str__(self) -> str:
        said = [f"{name} {value}" for name, value in self._asdict().items() if value is not None]
        return " and ".join(said) or "any run"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationRule:
    """That ``share`` of what matching runs cost goes ``to`` somebody: a team, a cost centre.

    A run matches that has the agent, project and user that are given; without any, every run
    does. Ids may be UUIDs or their text. ``share`` is a Decimal from 0 to 1; rules without one
    get equal parts of what the shares of the same condition leave.

    Raises InvalidArgument.
    """

    to: str
    share: Decimal | None = None
    agent_id: str | None = None
    project_id: UUID | str | None = None
    user_id: UUID | str | None = None

    def __post_init__(self) -> None:
        for name in ("to", "agent_id"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and (name == "to" or value is not None):
                raise InvalidArgument(f"{name} {shown(value)} of a rule is not a text of its name")
        for name in ("project_id", "user_id"):
            object.__setattr__(self, name, _uuid(name, getattr(self, name)))
        if self.share is not None:
            _require_share(self.share)

    @property
    def condition(self) -> Condition:
        """Which runs it is about."""
        project_id, user_id = _uuid("project_id", self.project_id), _uuid("user_id", self.user_id)
        return Condition(agent_id=self.agent_id, project_id=project_id, user_id=user_id)


class CostSum(NamedTuple):
    """What runs cost that have this agent, project and user, as far as any rule asks."""

    condition: Condition
    runs: int
    cost_cents: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatedCost(Record):
    """What somebody bears, in US cents."""

    to: str
    cost_cents: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CostAllocation(Record):
    """Who bears what the runs of a window cost, in US cents.

    ``total_cents`` is the sum of all ``cost_cents`` and ``unallocated_cents``, to the last digit.
    """

    window: Window
    runs: int
    total_cents: Decimal
    allocations: tuple[AllocatedCost, ...]
    """One for each that a rule names, also where it bears nothing: condition by condition, and
    then rule by rule, in the order in which they are first named."""
    unallocated_runs: int
    unallocated_cents: Decimal
    """What runs cost that no rule is about."""


def _require_share(share: object) -> None:
    if not isinstance(share, Decimal):
        raise InvalidArgument(
            f"share {shown(share)} is not a Decimal; write Decimal('0.25'), as a float is not exact"
        )
    if scaled(share, _SHARE_DECIMALS) is None or not 0 <= share <= 1:
        raise InvalidArgument(
            f"share {shown(share)} is not from 0 to 1 of at most {_SHARE_DECIMALS} decimals; for"
            " equal parts leave it out"
        )


def _uuid(name: str, value: object) -> UUID | None:
    if value is None or isinstance(value, UUID):
        return value
    try:
        return UUID(value)  # type: ignore[arg-type]
    except (TypeError, AttributeError, ValueError):
        raise InvalidArgument(f"{name} {shown(value)} of a rule is not a UUID") from None
