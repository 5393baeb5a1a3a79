"""Every error the ledger raises, and the one place where PostgreSQL's codes become them."""

from __future__ import annotations

import inspect
import re
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_ALL_DIGITS: Final = Context(prec=64)


class LedgerError(Exception):
    """The ledger could not do what was asked."""

    report: object = None
    """What a bulk write had stored before it failed, a `WriteReport`; None elsewhere."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        # An exception's own calls the class with the message, and some compose it from others.
        return type(self).__new__, (type(self), *self.args), self.__dict__


class InvalidArgument(LedgerError, ValueError):
    """An argument is outside what the call takes."""


class InvalidSettings(LedgerError, ValueError):
    """A setting is missing or cannot be read."""


class InvalidRecord(LedgerError, ValueError):
    """A record breaks a rule of the ledger and was not written."""


class UnknownReference(InvalidRecord):
    """A record names a user, provider or project that the ledger does not know."""


class ConflictingRecord(LedgerError):
    """A record with this key is stored, with other content.

    Raised where a retry is not the same record. Nothing was written.
    """

    def __init__(
        self, key: str, differing: Sequence[str], remedy: str = "use another request_id"
    ) -> None:
        self.key, self.differing = key, tuple(differing)
        super().__init__(
            f"{key} is already recorded with other {', '.join(differing)};"
            f" send what was sent first, or {remedy}"
        )


class UnknownPrice(LedgerError):
    """It is not known what these tokens cost; add the model's price, or give the budget rates."""


class BudgetExceeded(LedgerError):
    """A run has spent more than it may; stop it, and record it as aborted."""

    def __init__(self, run_id: str, budget_cents: Decimal, spent_cents: Decimal) -> None:
        self.run_id, self.budget_cents, self.spent_cents = run_id, budget_cents, spent_cents
        allocated, spent = _dollars(budget_cents), _dollars(spent_cents)
        super().__init__(
            f"Execution aborted: Budget exceeded. Allocated: {allocated}, Spent: {spent}"
        )


def _dollars(cents: Decimal) -> str:
    """All digits, and two decimals at least: $50.00, $0.005."""
    whole, _, decimals = format(_ALL_DIGITS.scaleb(cents, -2), "f").partition(".")
    return f"${whole}.{decimals.rstrip('0'):0<2}"


class DatabaseUnavailable(LedgerError):
    """The database cannot be reached, or the connection to it was lost."""


class Contended(LedgerError):
    """Two transactions stood in each other's way, and this one was undone; try it again."""


class DiskFull(LedgerError):
    """The database server has no room left; nothing of the batch under way is stored."""


class PermissionMissing(LedgerError):
    """The database role lacks a privilege; `ledger db grant` gives it."""


class SchemaNotReady(LedgerError):
    """A ledger of this version is not there; run `ledger db upgrade`, then `ledger db check`."""


class ForeignSchema(LedgerError):
    """The database has a schema named ledger that this package did not make."""


class StorageMismatch(LedgerError):
    """The settings ask for another storage than the one the database was installed with."""


class RetentionRefused(LedgerError):
    """This retention would erase rollups that are to be kept."""


class DataLossRefused(LedgerError):
    """A downgrade would drop a table that holds rows."""


class ExportFailed(LedgerError):
    """A file cannot be written; at its path there is what was there before."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} cannot be written: {reason}")


class AppendOnlyViolation(LedgerError):
    """Rows of this table are added and never changed."""


class MigrationFailed(LedgerError):
    """A migration could not be carried out."""


_CLASSES: dict[str, type[LedgerError]] = {
    "08": DatabaseUnavailable,
    "57P": DatabaseUnavailable,
    "53300": DatabaseUnavailable,
    "25P03": DatabaseUnavailable,
    "53100": DiskFull,
    "40": Contended,
    "55P03": Contended,
    "42501": PermissionMissing,
    "3F000": SchemaNotReady,
    "42P01": SchemaNotReady,
    "42883": SchemaNotReady,
    "42703": SchemaNotReady,
    "23": InvalidRecord,
    "22": InvalidRecord,
    "LG001": RetentionRefused,
    "LG002": DataLossRefused,
    "LG003": StorageMismatch,
    "LG004": MigrationFailed,
    "LG005": InvalidRecord,
    "LG006": AppendOnlyViolation,
}
"""SQLSTATE prefix -> error; the LG class is raised by the ledger's own SQL."""

_NAMED_WITH_SCHEMA: Final = frozenset({"42P01", "42883"})
_OF_THE_LEDGER: Final = re.compile(r"\bledger\.")
"""How statements of ours name tables and functions, and so the server, in any language."""


def translate(error: BaseException, sqlstate: str | None = None) -> LedgerError | None:
    """The ledger's error for one that a PostgreSQL driver raised, or None where there is none.

    The SQLSTATE decides; an error without one that a driver calls operational is a lost or
    refused connection.
    """
    driver_error: BaseException = getattr(error, "orig", None) or error
    code = (
        sqlstate or getattr(driver_error, "sqlstate", None) or getattr(driver_error, "pgcode", None)
    )
    words = _primary(driver_error)
    if code in _NAMED_WITH_SCHEMA and not _OF_THE_LEDGER.search(words):
        # A host's own trigger on a table of ours or listener on its connection, an operator, a
        # toolkit that is gone: `ledger db upgrade` mends none of them.
        return None
    if code is None:
        is_lost = type(driver_error).__name__ in {
            "OperationalError",
            "InterfaceError",
            "ConnectionTimeout",
        }
        return _told(DatabaseUnavailable, words) if is_lost else None
    for length in (5, 3, 2):
        if (found := _CLASSES.get(code[:length])) is not None:
            return found(words) if code.startswith("LG") else _told(found, words)
    return None


def _told(kind: type[LedgerError], words: str) -> LedgerError:
    return kind(f"{inspect.getdoc(kind)}\n{words}")


def _primary(error: BaseException) -> str:
    """What the server said, without its context: that is for the server's log."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    return primary or str(error).strip() or type(error).__name__
