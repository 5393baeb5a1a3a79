"""What is said of a run: how it ended, as it is stored, and the whole of it, as it is logged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ledger.errors import BudgetExceeded
from ledger.records.execution_parts import LONGEST_TEXT, ExecutionCost, ExecutionStep
from ledger.records.plain import plain
from ledger.records.refusal import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def status(error: BaseException | None) -> str:
    """Aborted by a budget, here or in a group, or where all that was raised stops a program."""
    if error is None:
        return "completed"
    failed = any(isinstance(raised, Exception) for raised in _raised(error))
    return "failed" if failed and _over_budget(error) is None else "aborted"


def message(error: BaseException, *, of: str | None = None) -> str:
    """What an error says, as text that can be stored, cut where it is too long.

    Of a group, the budget's error says it; that of another run than ``of`` names its run.
    """
    over_budget = _over_budget(error)
    try:
        said = f"{type(error).__name__}: {error}" if over_budget is None else str(over_budget)
        if over_budget is not None and of not in {None, over_budget.run_id}:
            said += f" (run {over_budget.run_id!r})"
    except Exception:  # noqa: BLE001 - an error of a host's may fail to say what it is
        said = shown(error)
    storable = said.replace("\0", "�").encode("utf-8", "replace").decode()
    return storable[:LONGEST_TEXT]


def note(error: BaseException, said: str) -> None:
    """Say it beside the error, where the error takes notes."""
    with suppress(Exception):  # an error that is a frozen dataclass takes no notes
        error.add_note(said)


def whole(run: Mapping[str, object]) -> str:
    """The run as JSON, numbers with all their digits; what JSON does not hold is text.

    In ASCII, which any log can hold, also a lone surrogate.
    """
    return _object(run, _field)


def _over_budget(error: BaseException) -> BudgetExceeded | None:
    return next((raised for raised in _raised(error) if isinstance(raised, BudgetExceeded)), None)


def _raised(error: BaseException) -> Iterator[BaseException]:
    """The error, or those that a group of them holds."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _raised(part)
    else:
        yield error


def _field(value: object) -> str:
    # Not value by value: one that holds itself twice would be written without end.
    try:
        return _written(value)
    except Exception:  # noqa: BLE001 - RecursionError, and whatever a host's objects raise
        return json.dumps(shown(value))


def _written(value: object) -> str:
    match value:
        case ExecutionCost() | ExecutionStep():
            return _written(value.to_json())
        case Mapping():
            return _object(value, _written)
        case list() | tuple():
            return f"[{', '.join(map(_written, value))}]"
        case float() | Decimal():  # which the standard library rounds, or does not write
            number = str(value)
            return number if Decimal(value).is_finite() else json.dumps(number)
        case _:
            return json.dumps(plain(value), default=repr)


def _object(values: Mapping[Any, object], written: Callable[[object], str]) -> str:
    pairs = (f"{json.dumps(str(key))}: {written(value)}" for key, value in values.items())
    return f"{{{', '.join(pairs)}}}"
