"""What a failed write says about itself, whichever driver and layer raised it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.errors import InvalidRecord, LedgerError, translate

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNIQUE_VIOLATION: Final = "23505"
_CHECK_VIOLATION: Final = "23514"
_DAY_REFUSED: Final = "LG005"
"""`ledger.ensure_days` makes no partition for that day."""


def is_collision(error: BaseException) -> bool:
    """Whether a row with the same key is stored."""
    return _sqlstate(error) == _UNIQUE_VIOLATION


def lacks_partition(error: BaseException) -> bool:
    """Whether there is no partition for a row's day, or none may be made."""
    code = _sqlstate(error)
    # A missing partition has the code of a CHECK without the name of one.
    return code == _DAY_REFUSED or (code == _CHECK_VIOLATION and _constraint(error) is None)


def blames_a_row(error: BaseException) -> bool:
    """Whether a value of some row was refused, so that the other rows may go in."""
    if isinstance(error, UnicodeError):  # a character that the database's encoding lacks
        return True
    code = _sqlstate(error)
    return code is not None and code[:2] in {"22", "23"} and code != _UNIQUE_VIOLATION


def refusal(error: Exception) -> LedgerError:
    """The ledger's error for one that blames a row."""
    if isinstance(error, LedgerError):
        return error
    if isinstance(error, UnicodeError):
        return InvalidRecord(f"the database's encoding lacks a character: {error}")
    return translate(error) or InvalidRecord(str(error))


def _sqlstate(error: BaseException) -> str | None:
    for raised in _origins(error):
        for name in ("sqlstate", "pgcode"):
            if isinstance(code := getattr(raised, name, None), str):
                return code
    return None


def _constraint(error: BaseException) -> str | None:
    for raised in _origins(error):
        # psycopg and psycopg2 keep it in `diag`, asyncpg on the error.
        for holder in (getattr(raised, "diag", None), raised):
            if isinstance(name := getattr(holder, "constraint_name", None), str):
                return name
    return None


def _origins(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was made of: the ledger's, SQLAlchemy's, the driver's."""
    while error is not None:
        yield error
        error = getattr(error, "orig", None) or error.__cause__
