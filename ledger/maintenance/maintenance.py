"""The two shells of maintenance: called on an Engine, awaited on an AsyncEngine.

The work is written once, against a Connection; `run_sync` hands it an asynchronous one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from ledger.engine import translated_errors
from ledger.errors import LedgerError
from ledger.maintenance import reconcile, run
from ledger.maintenance.connection import IsStopped, never
from ledger.maintenance.pace import Pace
from ledger.maintenance.reconciliation import Reconciliation
from ledger.maintenance.report import MaintenanceReport
from ledger.queries.scope import ALL_USERS, AllUsers, scope

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ledger.window import Window

OnReport: TypeAlias = Callable[[MaintenanceReport], object]
OnFailure: TypeAlias = Callable[[Exception], object]

EVERY: Final = timedelta(minutes=1)

_logger = logging.getLogger("ledger.maintenance")
_SURVIVED: Final = (LedgerError, SQLAlchemyError)
"""What one run may die of and the next not: the database's errors, never the program's."""


def _log_report(report: MaintenanceReport) -> None:
    for problem in report.problems:
        _logger.warning("%s", problem)


def _log_failure(failure: Exception) -> None:
    _logger.warning("maintenance failed and will be tried again: %s", failure)


def _no_progress(moment: datetime, window: Window) -> None:
    pass


class Maintenance:
    """Keeps the books current, and says whether they are true. Needs the schema's owner.

    Any number may run at once, anywhere; killed at any point they lose and double nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self) -> MaintenanceReport:
        """Do what is due now, and say what was done and what is wrong.

        On plain PostgreSQL: partitions ahead, rollups refreshed, retention applied. On
        TimescaleDB the database does that; it is refreshed now, and its jobs are looked at.
        On both: the sums of the billing and the execution ledger are folded.
        """
        return self._run(never)

    def run_forever(
        self,
        *,
        every: timedelta = EVERY,
        stop: threading.Event | None = None,
        on_report: OnReport = _log_report,
        on_failure: OnFailure = _log_failure,
    ) -> None:
        """Run again and again until ``stop`` is set, which also ends a run under way.

        A run that fails (a lost connection, say) is passed to ``on_failure`` and tried again
        after a second, then two, four, up to ``every``.
        """
        stop = stop or threading.Event()
        pace = Pace(every)
        while not stop.is_set():
            try:
                on_report(self._run(stop.is_set))
                pace.succeeded()
            except _SURVIVED as failure:
                if not stop.is_set():
                    on_failure(failure)
                pace.failed()
            stop.wait(pace.pause.total_seconds())

    def reconcile(
        self,
        window: Window,
        user_id: UUID | str | AllUsers = ALL_USERS,
        *,
        on_progress: reconcile.OnProgress = _no_progress,
    ) -> Reconciliation:
        """Recompute every hour that the window touches from raw rows, and report what differs.

        Both levels: every sum exactly, and all that is in every latency sketch. ``compared``
        says which hours could be: those that were rolled up, and whose raw rows are kept.
        """
        asked_of = scope(user_id, provider=None, model=None)
        with translated_errors(), self._engine.connect() as connection:
            return reconcile.reconcile(connection, window, asked_of, on_progress)

    def _run(self, is_stopped: IsStopped) -> MaintenanceReport:
        with translated_errors(), self._engine.connect() as connection:
            return run.run(connection, is_stopped)


class AsyncMaintenance:
    """The same, awaited."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def run(self) -> MaintenanceReport:
        """Do what is due now, and say what was done and what is wrong.

        On plain PostgreSQL: partitions ahead, rollups refreshed, retention applied. On
        TimescaleDB the database does that; it is refreshed now, and its jobs are looked at.
        On both: the sums of the billing and the execution ledger are folded.
        """
        return await self._run(never)

    async def run_forever(
        self,
        *,
        every: timedelta = EVERY,
        stop: asyncio.Event | None = None,
        on_report: OnReport = _log_report,
        on_failure: OnFailure = _log_failure,
    ) -> None:
        """Run again and again until ``stop`` is set, which also ends a run under way.

        A run that fails (a lost connection, say) is passed to ``on_failure`` and tried again
        after a second, then two, four, up to ``every``.
        """
        stop = stop or asyncio.Event()
        pace = Pace(every)
        while not stop.is_set():
            try:
                on_report(await self._run(stop.is_set))
                pace.succeeded()
            except _SURVIVED as failure:
                if not stop.is_set():
                    on_failure(failure)
                pace.failed()
            with suppress(TimeoutError):
                async with asyncio.timeout(pace.pause.total_seconds()):
                    await stop.wait()

    async def reconcile(
        self,
        window: Window,
        user_id: UUID | str | AllUsers = ALL_USERS,
        *,
        on_progress: reconcile.OnProgress = _no_progress,
    ) -> Reconciliation:
        """Recompute every hour that the window touches from raw rows, and report what differs.

        Both levels: every sum exactly, and all that is in every latency sketch. ``compared``
        says which hours could be: those that were rolled up, and whose raw rows are kept.
        """
        asked_of = scope(user_id, provider=None, model=None)
        with translated_errors():
            async with self._engine.connect() as connection:
                return await connection.run_sync(reconcile.reconcile, window, asked_of, on_progress)

    async def _run(self, is_stopped: IsStopped) -> MaintenanceReport:
        with translated_errors():
            async with self._engine.connect() as connection:
                return await connection.run_sync(run.run, is_stopped)
