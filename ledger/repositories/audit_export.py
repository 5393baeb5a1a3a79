"""How runs are exported, as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.queries.execution_export import execution_export
from ledger.repositories.export_copy import copy_out, copy_out_async
from ledger.repositories.export_files import destination
from ledger.repositories.export_outlets import written_whole, written_whole_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ledger.repositories.export_files import WhereTo
    from ledger.window import Window


class AuditExport:
    """What exports runs, called."""

    if TYPE_CHECKING:  # the repository's

        def _long_read(self) -> AbstractContextManager[Connection]: ...

    def export_executions_csv(
        self,
        project_id: UUID | str,
        window: Window,
        *,
        to: WhereTo,
        on_progress: Callable[[int], object] | None = None,
    ) -> int:
        """Write a project's runs to a CSV file in constant memory; how many rows there were.

        Those that ended in the window, which has its start and not its end, oldest first, by id
        within a millisecond. A header names the columns: those of `execution_ledger`. Costs are
        US cents as plain decimals with all their digits, durations whole milliseconds, times
        ISO 8601 in UTC, hashes lower-case hexadecimal, payloads the JSON that is stored, and
        what is not there is empty; in UTF-8, lines ending in a line feed. It has payloads and
        their salts, which an erasure in the database does not reach.

        Text that a spreadsheet may run as a formula, as it begins with ``=``, ``+``, ``-``,
        ``@``, a tab, a line break, or one of those signs in full width, gets an apostrophe put
        before it.

        ``to`` is a path, at which there is either the whole export or, whatever fails, what was
        there before; or a file open for bytes. ``on_progress`` is called with the bytes written
        so far; what it raises ends the export. Both are as for `Billing.export_usage_csv`.

        Raises ExportFailed for a path that cannot be written, before the database is asked or
        later; InvalidArgument, PermissionMissing, SchemaNotReady, DatabaseUnavailable.
        """
        export = execution_export(project_id, window)
        with (
            written_whole(destination(to), on_progress) as outlet,
            self._long_read() as connection,
        ):
            return copy_out(connection, export, outlet)


class AsyncAuditExport:
    """What exports runs, awaited."""

    if TYPE_CHECKING:  # the repository's

        def _long_read(self) -> AbstractAsyncContextManager[AsyncConnection]: ...

    async def export_executions_csv(
        self,
        project_id: UUID | str,
        window: Window,
        *,
        to: WhereTo,
        on_progress: Callable[[int], object] | None = None,
    ) -> int:
        """Write a project's runs to a CSV file in constant memory; how many rows there were.

        As `Audit.export_executions_csv`. Files are written in threads, one call at a time, so
        that a slow disk does not stop the loop; ``on_progress`` is called in the loop. A task
        that is cancelled leaves nothing at a path.
        """
        export = execution_export(project_id, window)
        async with (
            written_whole_async(destination(to), on_progress) as outlet,
            self._long_read() as connection,
        ):
            return await copy_out_async(connection, export, outlet)
