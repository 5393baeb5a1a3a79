"""How runs are recorded, one or many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from ledger.write.executions import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Mapping

    from ledger.records.audit import ExecutionRecord
    from ledger.records.execution import Execution
    from ledger.records.report import Rejected, WriteReport
    from ledger.repositories.repository import BatchPlan
    from ledger.write.commands import Plan
    from ledger.write.terms import Terms

Result = TypeVar("Result")

RUNS_A_BATCH: Final = 1_000
"""A run may have some megabytes, and a batch of them is held in memory."""


class AuditWrites:
    """What records runs, called."""

    if TYPE_CHECKING:  # the repository's
        terms: Terms

        def perform(self, plan: Plan[Result]) -> Result: ...
        def _write(
            self,
            records: Iterable[object],
            batch_plan: BatchPlan,
            batch_size: int,
            on_rejected: Callable[[Rejected], object] | None,
        ) -> WriteReport: ...

    def record_execution(self, execution: Execution | Mapping[str, Any]) -> ExecutionRecord:
        """Record one run, exactly once, and give it as it is stored.

        The same run_id and content again is a success, and gives what was stored then; of a run
        whose payloads are erased there is no more to compare than its total and duration. Bound
        to a caller's transaction, nobody else records runs of that project until it ends.

        Raises ConflictingRecord where the run_id is recorded with other content,
        UnknownReference for a user or project that the ledger does not know, or that
        `ledger.user_id` shuts out of this session, InvalidRecord where the run breaks a rule or
        lies in the future, and Contended where a transaction of the caller's does not see what
        others have committed.
        """
        return self.perform(Recorder(self.terms).record_one(execution))

    def record_executions(
        self,
        executions: Iterable[Execution | Mapping[str, Any]],
        *,
        batch_size: int = RUNS_A_BATCH,
        on_rejected: Callable[[Rejected], object] | None = None,
    ) -> WriteReport:
        """Record any number of runs, batch by batch, in constant memory, each exactly once.

        In each project they are appended to the chain in the order in which they come. On an
        engine of the ledger's own each batch is committed; bound to a caller's connection or
        session nothing is. Bad, conflicting and future records, and those of unknown users and
        projects, are rejected, and the others recorded; the report has the first 1,000
        rejections, and ``on_rejected`` is called with each, when its batch is recorded.

        Raises DatabaseUnavailable, DiskFull, Contended and PermissionMissing, whose `report` says
        what was recorded before; sending everything again is safe.
        """
        record = Recorder(self.terms).record_batch
        return self._write(executions, record, batch_size, on_rejected)


class AsyncAuditWrites:
    """What records runs, awaited."""

    if TYPE_CHECKING:  # the repository's
        terms: Terms

        async def perform(self, plan: Plan[Result]) -> Result: ...
        async def _write(
            self,
            records: Iterable[object] | AsyncIterable[object],
            batch_plan: BatchPlan,
            batch_size: int,
            on_rejected: Callable[[Rejected], object] | None,
        ) -> WriteReport: ...

    async def record_execution(self, execution: Execution | Mapping[str, Any]) -> ExecutionRecord:
        """Record one run, exactly once, and give it as it is stored.

        As `Audit.record_execution`.
        """
        return await self.perform(Recorder(self.terms).record_one(execution))

    async def record_executions(
        self,
        executions: Iterable[Execution | Mapping[str, Any]]
        | AsyncIterable[Execution | Mapping[str, Any]],
        *,
        batch_size: int = RUNS_A_BATCH,
        on_rejected: Callable[[Rejected], object] | None = None,
    ) -> WriteReport:
        """Record any number of runs, batch by batch, in constant memory, each exactly once.

        As `Audit.record_executions`.
        """
        record = Recorder(self.terms).record_batch
        return await self._write(executions, record, batch_size, on_rejected)
