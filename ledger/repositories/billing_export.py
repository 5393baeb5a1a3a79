"""How usage is exported, as CSV."""

# ruff: noqa: PLR0913 - an export has as many filters as a question

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from ledger.queries.usage_export import usage_export
from ledger.repositories.export_connections import reading, reading_async, require
from ledger.repositories.export_copy import copy_out, copy_out_async
from ledger.repositories.export_files import destination
from ledger.repositories.export_outlets import written_whole, written_whole_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from uuid import UUID

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from ledger.records.usage import Status
    from ledger.repositories.expected import Expected
    from ledger.repositories.export_files import WhereTo
    from ledger.window import Window


class BillingExport:
    """What exports usage, called."""

    if TYPE_CHECKING:  # the repository's
        _reading: Engine | None
        _expected: Expected

        def _transaction(self) -> AbstractContextManager[Connection]: ...

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

    @contextmanager
    def _long_read(self) -> Iterator[Connection]:
        if self._reading is not None:
            with reading(self._reading, self._expected) as connection:
                yield connection
        else:
            with self._transaction() as connection:
                require(connection, self._expected)
                yield connection


class AsyncBillingExport:
    """What exports usage, awaited."""

    if TYPE_CHECKING:  # the repository's
        _reading: AsyncEngine | None
        _expected: Expected

        def _transaction(self) -> AbstractAsyncContextManager[AsyncConnection]: ...

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

    @asynccontextmanager
    async def _long_read(self) -> AsyncIterator[AsyncConnection]:
        if self._reading is not None:
            async with reading_async(self._reading, self._expected) as connection:
                yield connection
        else:
            async with self._transaction() as connection:
                await connection.run_sync(require, self._expected)
                yield connection
