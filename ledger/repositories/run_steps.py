"""A step of a run while it is taken, and what is kept of it in the trace."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ledger.records.execution_parts import ExecutionStep
from ledger.repositories.run_texts import message, note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ledger.pricing.budget_rates import Amount


@dataclass(slots=True, kw_only=True)
class Step:
    """A step of a run while it is taken; what is set of it is kept in the trace."""

    tool: str | None = None
    cost_cents: Amount | None = None
    """What the step cost; accounted by nobody but the budget's methods."""
    result: Any = None
    """Anything that JSON holds."""
    details: Mapping[str, Any] | None = None


def kept_of(
    taken: Mapping[str, Any], step: Step, error: BaseException | None
) -> tuple[ExecutionStep, Exception | None]:
    """The step as the trace has it, and why something that was set of it is not kept.

    The trace says so too, unless it has what was raised in the step, which must not be masked.
    """
    given = {field.name: getattr(step, field.name, None) for field in fields(step)}
    try:
        return ExecutionStep(**taken, **given), None
    except Exception as refused:  # noqa: BLE001 - whatever a host's objects raise, too
        said = message(refused)
        if error is not None:
            note(error, f"not all that was set of step {taken['action']!r} is kept ({said})")
        kept = {name: value for name, value in given.items() if _is_kept(name, value)}
        return ExecutionStep(**{"error": said, **taken, **kept}), refused


def _is_kept(name: str, value: object) -> bool:
    try:
        ExecutionStep(**{"action": "one", name: value})
    except Exception:  # noqa: BLE001 - as above
        return False
    return True
