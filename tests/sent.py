"""What the repositories' reads send to the server, as psycopg is given it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import psycopg


@dataclass(frozen=True, slots=True)
class Sent:
    """One statement of a read, and what it binds."""

    statement: bytes
    parameters: Mapping[str, Any]

    @property
    def is_opening(self) -> bool:
        """Whether it only asks for the clock and the horizon."""
        return b"answer" not in self.statement


@contextmanager
def sent_by_reads(then: Callable[[Sent], object] | None = None) -> Iterator[list[Sent]]:
    """The statements of reads, sync and async, in order; ``then`` runs before each is sent.

    Bound ledgers' are not among them: those go through their caller's SQLAlchemy.
    """
    seen: list[Sent] = []

    def note(query: object, parameters: Mapping[str, Any] | None) -> None:
        if isinstance(query, bytes) and b"seen AS" in query:
            seen.append(Sent(query, parameters or {}))
            if then is not None:
                then(seen[-1])

    with _noting(note):
        yield seen


@contextmanager
def _noting(note: Callable[[object, Mapping[str, Any] | None], None]) -> Iterator[None]:
    called, awaited = psycopg.Connection.execute, psycopg.AsyncConnection.execute

    def execute(self: Any, query: Any, parameters: Any = None, **options: Any) -> Any:
        note(query, parameters)
        return called(self, query, parameters, **options)

    async def execute_awaited(self: Any, query: Any, parameters: Any = None, **options: Any) -> Any:
        note(query, parameters)
        return await awaited(self, query, parameters, **options)

    with (
        patch.object(psycopg.Connection, "execute", execute),
        patch.object(psycopg.AsyncConnection, "execute", execute_awaited),
    ):
        yield
