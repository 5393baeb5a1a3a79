"""How a read goes: for the context that was seen last, and again where it does not hold."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ledger.queries.opening import OPENING, context

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from ledger.queries.query import AnySelect, Cells, Context, Query
    from ledger.repositories.expected import Expected

Step: TypeAlias = "tuple[AnySelect, Mapping[str, object]]"
"""A statement and what it binds."""

Result = TypeVar("Result")

Steps: TypeAlias = "Generator[Step, Sequence[Cells], Result]"
"""The statements to execute, each answered with its rows, and then the result."""


class Reader:
    """Puts questions as one statement each, and remembers what the last one saw.

    A statement is built for the database's clock, horizon and watermark. Asking for them first
    would double the round trips; so they are those that the last statement saw, moved to the
    present, and each statement says in which context it ran. The answer of one that was built
    for another is thrown away, and the question put again.
    """

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._seen: tuple[Context, float] | None = None
        """What a statement saw, and when it was sent by our own clock."""

    def steps(self, ask: Callable[[Context], Query[Result]]) -> Steps[Result]:
        """How to answer a question."""
        try:
            known = self._recalled()
            if known is None:
                known = context((yield OPENING, {}))
            while True:
                self._expected.require(known.installed)
                query = ask(known)
                sent = monotonic()
                rows = yield query.statement, query.parameters
                known = context(rows)
                if query.holds_in(known):
                    self._seen = known, sent
                    return query.read(rows)
        except BaseException:
            # The database may be another by now, and the statement wrong for it.
            self._seen = None
            raise

    def _recalled(self) -> Context | None:
        if self._seen is None:
            return None
        seen, sent = self._seen
        return seen.after(timedelta(seconds=monotonic() - sent))
