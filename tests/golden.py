"""The SQL that each renderer makes of each object, as files that a person reads in a diff.

After a wanted change: `python -m tests.golden` writes them again.
"""

from __future__ import annotations

from pathlib import Path

from ledger.ddl.autogenerate import built_index
from ledger.ddl.declared import DECLARED
from ledger.ddl.guard import guard
from ledger.ddl.objects import DatabaseObject
from ledger.ddl.operations import RENDERERS
from ledger.ddl.rendering import Rendering
from ledger.ddl.steps import Step
from ledger.models.base import Base
from ledger.settings import Percentiles, Storage

FOLDER = Path(__file__).parent / "unit" / "golden"
INDEXED = ("llm_requests", "token_usage_ledger")
KINDS = [(storage, encoding) for storage in Storage for encoding in Percentiles]


def objects() -> list[DatabaseObject]:
    """All that is declared, and the indexes that are built without stopping writers."""
    tables = (Base.metadata.tables[f"ledger.{name}"] for name in INDEXED)
    indexes = [index for table in tables for index in table.indexes]
    ordered = sorted(indexes, key=lambda index: str(index.name))
    return [*DECLARED, *(built_index(index) for index in ordered)]


def golden_file(storage: Storage, encoding: Percentiles) -> Path:
    return FOLDER / f"{storage}-{encoding}.sql"


def rendered(storage: Storage, encoding: Percentiles) -> str:
    renderer = RENDERERS[storage]
    parts = ["-- guard", f"{guard(storage, encoding)};"]
    for target in objects():
        for verb in ("create", "drop"):
            parts.append(f"\n-- {verb} {type(target).__name__} {target.name}")
            parts += map(
                _described, getattr(renderer, verb)(target, Rendering(percentiles=encoding))
            )
    return "\n".join(parts) + "\n"


def _described(step: Step) -> str:
    remarks = {
        "outside a transaction": step.runs_outside_transaction,
        "its rows are run": step.is_generator,
        "patiently": step.is_patient,
    }
    said = ", ".join(remark for remark, holds in remarks.items() if holds)
    return f"-- ({said})\n{step.sql};" if said else f"{step.sql};"


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for storage, encoding in KINDS:
        golden_file(storage, encoding).write_text(rendered(storage, encoding))


if __name__ == "__main__":
    write()
