"""Which rows of the billing ledger a question is about: the arguments that every read takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args
from uuid import UUID

from ledger.errors import InvalidArgument
from ledger.queries.scope import named, uuid_of
from ledger.records.usage import Status

_STATUSES: Final = get_args(Status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which rows are asked about, whatever their time."""

    provider: str | None
    model_id: str | None
    user_id: UUID | None
    tier: str | None
    project_id: UUID | None
    status: Status | None

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 - each is an argument of every question
        cls,
        provider: str | None,
        model: str | None,
        user_id: UUID | str | None,
        tier: str | None,
        project_id: UUID | str | None,
        status: Status | None,
    ) -> Asked:
        """The same of a caller's arguments. Raises InvalidArgument, naming the wrong one."""
        if status is not None and status not in _STATUSES:
            raise InvalidArgument(f"status {status!r} is none of {', '.join(_STATUSES)}")
        return cls(
            provider=named(provider, "provider"),
            model_id=named(model, "model"),
            user_id=None if user_id is None else uuid_of(user_id, "user_id"),
            tier=named(tier, "tier"),
            project_id=None if project_id is None else uuid_of(project_id, "project_id"),
            status=status,
        )

    @property
    def parameters(self) -> dict[str, object]:
        """What the restrictions bind."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are held to a value each."""
        return tuple("provider_id" if name == "provider" else name for name in self.parameters)
