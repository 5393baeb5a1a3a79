"""Who makes a seeded call, and what for."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from ledger.cli.catalogue import urn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

HEAVIEST_SHARE = 0.25

CATEGORIES = urn(
    {
        "support": 28,
        "chat": 24,
        "code": 14,
        "extraction": 12,
        "summarisation": 10,
        "translation": 4,
        None: 8,
    }
)
AGENTS = urn(
    {
        "support-triage": 20,
        "support-answer": 16,
        "code-reviewer": 10,
        "researcher": 8,
        "report-writer": 6,
        None: 40,
    }
)
SERVICE_TIERS = urn({None: 70, "default": 22, "flex": 5, "priority": 3})
ATTRIBUTES: list[dict[str, Any]] = [
    {},
    {},
    {"environment": "production", "region": "eu-central-1"},
    {"environment": "production", "region": "us-east-1"},
    {"environment": "staging", "region": "eu-central-1", "experiment": {"arm": "b"}},
]

PURPOSES = 300
PROJECT_SHARE = 0.7
SESSION_GOES_ON = 0.85
SESSIONLESS_SHARE = 0.2


class Purpose(NamedTuple):
    """What a part of the application calls models for."""

    category: str | None
    agent_id: str | None
    service_tier: str | None
    attributes: dict[str, Any]


class Caller(NamedTuple):
    """The part of a call that depends on who makes it."""

    user_id: UUID
    session_id: str | None
    project_id: UUID | None
    purpose: Purpose


class Callers:
    """Draws callers: the first user makes a quarter of the calls, the rest ever fewer."""

    def __init__(self, users: Sequence[UUID], random: Random) -> None:
        self._random = random
        self._users = list(users)
        self._user_weights = list(accumulate(user_weights(len(users))))
        self._sessions: dict[UUID, str] = {}
        self._projects = {user: invented_uuid(random) for user in users}
        # Drawn once: an application has so many places that call a model, and a draw costs.
        self._purposes = [
            Purpose(
                category=random.choice(CATEGORIES),
                agent_id=random.choice(AGENTS),
                service_tier=random.choice(SERVICE_TIERS),
                attributes=random.choice(ATTRIBUTES),
            )
            for _ in range(PURPOSES)
        ]

    def draw(self) -> Caller:
        """The next caller."""
        random = self._random.random
        (user,) = self._random.choices(self._users, cum_weights=self._user_weights)
        return Caller(
            user_id=user,
            session_id=None if random() < SESSIONLESS_SHARE else self._session(user),
            project_id=self._projects[user] if random() < PROJECT_SHARE else None,
            purpose=self._random.choice(self._purposes),
        )

    def _session(self, user: UUID) -> str:
        session = self._sessions.get(user)
        if session is None or self._random.random() > SESSION_GOES_ON:
            session = self._sessions[user] = f"session-{self._random.getrandbits(40):010x}"
        return session


def user_weights(users: int) -> list[float]:
    """Shares of the calls: a quarter for the first of at least five, the others' shrinking."""
    heaviest = max(HEAVIEST_SHARE, 1 / users)
    tail = [(rank + 2) ** -0.7 for rank in range(users - 1)]
    return [heaviest, *(weight / sum(tail) * (1 - heaviest) for weight in tail)]


def invented_uuid(random: Random) -> UUID:
    """A random UUID that the same seed draws again."""
    return UUID(int=random.getrandbits(128), version=4)
