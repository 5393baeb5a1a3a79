"""What `ledger db check` says of the billing ledger, as findings of a verification."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ledger.ddl.declared import DECLARED
from ledger.ddl.objects import Routine, RunningSums, View
from ledger.ddl.running_sums import table_names
from ledger.maintenance.verification.findings import Finding, Severity, note
from ledger.maintenance.verification.sight import TABLE, Sight
from ledger.models.base import SCHEMA
from ledger.models.billing import TokenUsage
from ledger.models.prices import ModelPrice
from ledger.models.tenancy import Project, Provider, Tier, User

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ledger.ddl.difference import Difference
    from ledger.ddl.objects import DatabaseObject

_TABLES: Final = frozenset(
    model.__tablename__ for model in (TokenUsage, User, Provider, Project, Tier, ModelPrice)
)
_NOT_COMPARED: Final = "cannot be compared"


def _names() -> Iterator[str]:
    """What differences of the billing ledger are told of."""
    yield from _TABLES
    for target in DECLARED:
        if isinstance(target, RunningSums) and target.table == TABLE:
            yield from table_names(target)
        elif _reads_usage(target):
            yield target.name


def _reads_usage(target: DatabaseObject) -> bool:
    match target:
        case Routine():
            return TABLE in target.definition
        case View():
            return TABLE in target.query
        case _:
            return False


_OF_BILLING: Final = frozenset(_names())


def of_billing(differences: Iterable[Difference], sight: Sight) -> list[Finding]:
    """A finding a difference, and one note of what this role could not compare."""
    findings: list[Finding] = []
    unseen: dict[str, None] = {}
    for difference in differences:
        about = difference.object.removeprefix(f"{SCHEMA}.")
        if about not in _OF_BILLING:
            continue
        if not sight.compares_all and difference.problem.startswith(_NOT_COMPARED):
            unseen[about] = None
            continue
        severity = Severity.WARNING if difference.is_warning else Severity.FAILURE
        findings.append(Finding(severity=severity, about=about, words=difference.problem))
    if unseen:
        words = (
            f"the role {sight.role} may not compare all of it with what is declared;"
            " `ledger db check` as the owner does"
        )
        findings.append(note(", ".join(unseen), words))
    return findings


def is_about_index(finding: Finding) -> bool:
    """Whether the difference is in an index of the token usage ledger."""
    return finding.words.startswith(f"table {TABLE}: index ")


def names_one(finding: Finding, names: Iterable[str]) -> bool:
    """Whether the difference is in one of these columns, or indexes, of that table."""
    return any(
        re.match(rf"table {TABLE}: (column|index) {re.escape(name)} ", finding.words)
        for name in names
    )
