"""Errors as a person reads them: one paragraph on stderr and an exit code."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer
from rich.text import Text

from ledger.cli.console import err
from ledger.errors import InvalidArgument, InvalidSettings, LedgerError, translate

if TYPE_CHECKING:
    from collections.abc import Iterator

FOUND_SOMETHING: Final = 1
WRONG_USE: Final = 2
FAILED: Final = 3
INTERRUPTED: Final = 130


@contextmanager
def explained_failures(*, is_debugging: bool) -> Iterator[None]:
    """End the command with a message and typer.Exit where anything below it fails."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
        # typer says these itself; the last is the reader of a pipe who has seen enough.
        raise
    except Exception as error:
        console = err()
        if is_debugging:
            # Not rich's, which can show variables, and so passwords.
            console.print(Text(traceback.format_exc()), soft_wrap=True)
        console.print(Text(explanation(error), style="red"), soft_wrap=True)
        is_wrong_use = isinstance(error, (InvalidArgument, InvalidSettings))
        raise typer.Exit(WRONG_USE if is_wrong_use else FAILED) from error


def explanation(error: Exception) -> str:
    """What went wrong, and what to do next."""
    known = error if isinstance(error, LedgerError) else translate(error)
    if known is not None:
        return str(known)
    # SQLAlchemy wraps the driver's error in the statement and a link.
    cause = getattr(error, "orig", None) or error
    return (
        f"{type(cause).__name__}: {cause}\nThe ledger did not expect this; --debug shows where it"
        " happened."
    )
