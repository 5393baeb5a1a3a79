"""How usage is exported, as CSV."""

# ruff: noqa: PLR0913 - an export has as many filters as a question

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.queries.usage_export import usage_export
from ledger.repositories.export_copy import copy_out, copy_out_async
from ledger.repositories.export_files import destination
from ledger.repositories.export_outlets import written_whole, written_whole_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ledger.records.usage import Status
    from ledger.repositories.export_files import WhereTo
    from ledger.window import Window


class BillingExport:
    """What exports usage, called."""

    if TYPE_CHECKING:  # the repository's

        def _long_read(self) -> AbstractContextManager[Connection]: ...

    def export_usage_csv(
        self,
        window: Window,
        *,
        to: WhereTo,
        provider: str | None = None,
        model: str | None = None,
        user_id: UUID | str | None = None,
        tier: str | None = None,
        status: Status | None = None,
        project_id: UUID | str | None = None,
        on_progress: Callable[[int], object] | None = None,
    ) -> int:
        """Write the usage of a window to a CSV file in constant memory; how many rows there were.

        All kinds of rows that were created in the window and match exactly, corrections by when
        they were booked, oldest first, by id within a millisecond. A header names the columns:
        those of `token_usage_ledger`, and `provider`, the name, after its id. Money and counts
        are plain decimals with all their digits, times ISO 8601 in UTC, attributes JSON, and
        what is not known is empty; in UTF-8, lines ending in a line feed.

        Text that a spreadsheet may run as a formula, as it begins with ``=``, ``+``, ``-``,
        ``@``, a tab, a line break, or one of those signs in full width, gets an apostrophe put
        before it. Numbers never do.

        ``to`` is a path, or a file open for bytes, which are what the server sends. At a path
        there is either the whole export or, whatever fails, what was there before; a new file
        has the mode that the umask gives, one that is replaced keeps its own. An open file is
        written from where it stands, and neither closed nor cut back on a failure; what it
        raises passes as it is.

        ``on_progress`` is called with the bytes written so far, every 256 KiB or so and at the
        end; what it raises ends the export.

        Raises ExportFailed for a path that cannot be written, before the database is asked or
        later; InvalidArgument, PermissionMissing, SchemaNotReady, DatabaseUnavailable.
        """
        export = usage_export(
            window,
            provider=provider,
            model=model,
            user_id=user_id,
            tier=tier,
            status=status,
            project_id=project_id,
        )
        with (
            written_whole(destination(to), on_progress) as outlet,
            self._long_read() as connection,
        ):
            return copy_out(connection, export, outlet)


class AsyncBillingExport:
    """What exports usage, awaited."""

    if TYPE_CHECKING:  # the repository's

        def _long_read(self) -> AbstractAsyncContextManager[AsyncConnection]: ...

    async def export_usage_csv(
        self,
        window: Window,
        *,
        to: WhereTo,
        provider: str | None = None,
        model: str | None = None,
        user_id: UUID | str | None = None,
        tier: str | None = None,
        status: Status | None = None,
        project_id: UUID | str | None = None,
        on_progress: Callable[[int], object] | None = None,
    ) -> int:
        """Write the usage of a window to a CSV file in constant memory; how many rows there were.

        As `Billing.export_usage_csv`. Files are written in threads, one call at a time, so that
        a slow disk does not stop the loop; ``on_progress`` is called in the loop. A task that is
        cancelled leaves nothing at a path.
        """
        export = usage_export(
            window,
            provider=provider,
            model=model,
            user_id=user_id,
            tier=tier,
            status=status,
            project_id=project_id,
        )
        async with (
            written_whole_async(destination(to), on_progress) as outlet,
            self._long_read() as connection,
        ):
            return await copy_out_async(connection, export, outlet)
