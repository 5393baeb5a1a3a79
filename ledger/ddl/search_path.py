"""The search path by which our SQL is read, where nobody but a superuser can define anything.

By any other, whoever may create in a schema of it has the owner run his own code: PostgreSQL
takes the function or operator whose arguments fit best, also from a schema that comes later.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy import Boolean, bindparam, event, func, literal, select, text
from sqlalchemy.exc import DBAPIError

from ledger.engine import commits_each_statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

TRUSTED: Final = "pg_catalog, pg_temp"
"""The temporary schema is named, as it comes first where it is not."""

FIXED: Final = f"SET search_path = {TRUSTED}"
"""The clause of a routine that is not called for every row, and that does not commit."""

FIX: Final = f"PERFORM pg_catalog.set_config('search_path', '{TRUSTED}', true);"
"""The same until the transaction ends, for a procedure that commits: such a one may not have
the clause."""

_CURRENT: Final = text("SELECT pg_catalog.current_setting('search_path')")
_SET: Final = text("SELECT pg_catalog.set_config('search_path', :path, :is_local)").bindparams(
    bindparam("is_local", type_=Boolean())
)


@contextmanager
def trusted(connection: Connection) -> Iterator[None]:
    """Read statements by the trusted path, in the caller's transaction, which keeps its own.

    In autocommit, where each statement is one, in the session.
    """
    is_local = not commits_each_statement(connection)
    before = connection.scalar(_CURRENT)
    connection.execute(_SET, {"path": TRUSTED, "is_local": is_local})
    has_failed = False
    try:
        yield
    except DBAPIError:
        # Nothing goes before the rollback, which takes the setting along.
        has_failed = is_local
        raise
    finally:
        # Nor where a cancellation has closed it, which must not be masked.
        if not (has_failed or connection.invalidated):
            connection.execute(_SET, {"path": before, "is_local": is_local})


def trust_in_each_transaction(connection: Connection) -> None:
    """Begin each transaction of the connection with it; a session's state a pooler would share."""
    event.listen(connection, "begin", _begin_trusted)


def _begin_trusted(connection: Connection) -> None:
    connection.execute(
        select(func.pg_catalog.set_config("search_path", TRUSTED, literal(value=True)))
    )
