"""The plan that erases the payloads of a run, on a lawful request, and keeps that it did."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC
from typing import TYPE_CHECKING, Final

from sqlalchemy import Executable, Text, bindparam, column, func, select

from ledger.errors import UnknownReference
from ledger.models.audit import ExecutionErasure
from ledger.models.base import SCHEMA
from ledger.records.audit import Erasure
from ledger.records.refusal import refusal
from ledger.records.rules import require_text
from ledger.write.commands import atomically, execute

if TYPE_CHECKING:
    from ledger.write.commands import Plan, Steps

_LONGEST_REASON: Final = 1_000

_TABLE: Final = ExecutionErasure.metadata.tables[f"{SCHEMA}.{ExecutionErasure.__tablename__}"]
_ANSWERED: Final = {field.name for field in fields(Erasure)}
_erased = (
    getattr(func, SCHEMA)
    .erase_execution(bindparam("run_id", type_=Text), bindparam("reason", type_=Text))
    .table_valued(
        *(column(each.name, each.type) for each in _TABLE.columns if each.name in _ANSWERED),
        name="erased",
    )
)
_ERASE: Final[Executable] = select(*_erased.c)


def erase_payload(run_id: str, reason: str) -> Plan[Erasure]:
    """Erase what a run was asked and what it did, for a reason that is kept.

    Intent, input, output, cost breakdown, steps and error message are gone for good, from the
    next vacuum on also from the database's files, and from its backups as those expire. What
    it cost in all, how long it took, and its place in the chain stay, and the chain still
    verifies. A run whose payloads are erased already keeps the reason that was given first.

    Raises UnknownReference for a run that is not recorded or not to be seen, InvalidRecord for a
    reason that is no text of 1 to 1,000 characters, and PermissionMissing for a role that may
    not erase.
    """
    require_text("run_id", run_id)
    require_text("reason", reason, _LONGEST_REASON)
    if not reason.strip():
        raise refusal("reason", reason, "is blank; say why, for whoever asks later")
    return (yield from atomically(_steps(run_id, reason)))


def _steps(run_id: str, reason: str) -> Steps[Erasure]:
    rows = (yield from execute(_ERASE, {"run_id": run_id, "reason": reason})).rows
    if not rows:
        raise UnknownReference(f"run_id {run_id!r}: no such run is recorded")
    erased = rows[0]._asdict()
    erased["erased_at"] = erased["erased_at"].astimezone(UTC)
    return Erasure(run_id=run_id, **erased)
