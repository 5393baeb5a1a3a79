"""The count that a bulk write keeps, and gives to whoever it fails for."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ledger.errors import LedgerError
from ledger.records.report import KEPT_REJECTIONS, Rejected, WriteReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Tally:
    """What became of the records so far."""

    def __init__(
        self, *, commits: bool, on_rejected: Callable[[Rejected], object] | None = None
    ) -> None:
        """``commits`` says whether what is counted as inserted is committed."""
        self._stored = "committed" if commits else "written in your transaction"
        self._on_rejected = on_rejected
        self._inserted = self._duplicates = self._rejected_count = 0
        self._rejected: list[Rejected] = []

    def add(self, *, inserted: int = 0, duplicates: int = 0) -> None:
        self._inserted += inserted
        self._duplicates += duplicates

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Count rejected records, keep the first thousand, tell the caller about each."""
        self._rejected_count += len(rejected)
        self._rejected.extend(rejected[: KEPT_REJECTIONS - len(self._rejected)])
        if self._on_rejected is not None:
            for one in rejected:
                self._on_rejected(one)

    def report(self) -> WriteReport:
        return WriteReport(
            inserted=self._inserted,
            duplicates=self._duplicates,
            rejected=tuple(self._rejected),
            rejected_count=self._rejected_count,
        )

    @contextmanager
    def told_on_failure(self) -> Iterator[None]:
        """Say in whatever is raised how far the write had come.

        A LedgerError carries the report, and the number in its message.
        """
        try:
            yield
        except LedgerError as error:
            error.report = self.report()
            error.args = (f"{error}\n{self._progress()}", *error.args[1:])
            raise
        except Exception as error:
            error.add_note(self._progress())
            raise

    def _progress(self) -> str:
        return (
            f"Before that, {self._inserted:,} records of this call were {self._stored};"
            " sending all of them again is safe."
        )
