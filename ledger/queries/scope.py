"""Whose rows a question is about, and which of them: the arguments that every read takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final
from uuid import UUID

from ledger.errors import InvalidArgument
from ledger.window import Interval, Window, interval, utc


class AllUsers(Enum):
    """The scope of everybody, which has to be asked for by name."""

    ALL_USERS = "all users"

    def __repr__(self) -> str:
        return self.name


ALL_USERS: Final = AllUsers.ALL_USERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which rows are asked about, whatever their time; None is no restriction."""

    user_id: UUID | None
    provider: str | None
    model: str | None

    @property
    def parameters(self) -> dict[str, object]:
        """What the restrictions bind, by the names of their columns."""
        named = {"user_id": self.user_id, "provider": self.provider, "model": self.model}
        return {name: value for name, value in named.items() if value is not None}


def scope(user_id: UUID | str | AllUsers, *, provider: str | None, model: str | None) -> Scope:
    """The scope of these arguments. Raises InvalidArgument, naming the one that is wrong."""
    return Scope(
        user_id=None if user_id is ALL_USERS else _user(user_id),
        provider=named(provider, "provider"),
        model=named(model, "model"),
    )


def asked_window(asked: Interval | str | Window, *, at: datetime | None, now: datetime) -> Window:
    """The window of an interval that ends at ``at``, else now, or the one that was given.

    Raises InvalidArgument for an unknown name, a naive ``at``, one beside a Window.
    """
    if isinstance(asked, Window):
        if at is not None:
            raise InvalidArgument("a Window ends where it says; leave `at` out")
        return asked
    if not isinstance(asked, str):
        raise InvalidArgument(f"{asked!r} is neither an Interval, nor its name, nor a Window")
    named = interval(asked)
    try:
        # The database keeps milliseconds: the present one counts as passed, or what was
        # written a moment ago would not be seen.
        return named.window(utc(now) + timedelta(milliseconds=1) if at is None else at)
    except OverflowError as error:
        raise InvalidArgument(f"{named} before {at} reaches beyond the calendar") from error


def _user(user_id: object) -> UUID:
    try:
        return uuid_of(user_id, "user_id")
    except InvalidArgument as error:
        raise InvalidArgument(f"{error}; for the rows of everybody say ALL_USERS") from None


def uuid_of(value: object, argument: str) -> UUID:
    """The UUID, or the one of that text. Raises InvalidArgument, naming the argument."""
    if isinstance(value, UUID):
        return value
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            pass
    raise InvalidArgument(f"{argument} {value!r} is not a UUID")


def required(value: object, argument: str) -> str:
    """The name, which there must be. Raises InvalidArgument for None, and as `named` does."""
    if (name := named(value, argument)) is None:
        raise InvalidArgument(f"{argument} {value!r} is not a str")
    return name


def named(value: object, argument: str) -> str | None:
    """The name, if it is one. Raises InvalidArgument for what is no text that is stored."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidArgument(f"{argument} {value!r} is not a str")
    try:
        is_text = b"\0" not in value.encode()
    except UnicodeEncodeError:
        is_text = False
    if not is_text:
        raise InvalidArgument(f"{argument} {value!r} holds a character that no text can")
    return value
