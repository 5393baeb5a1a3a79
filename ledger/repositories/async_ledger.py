"""A database's ledgers, opened, with every method awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import AsyncExitStack, ExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.engine import async_engine, async_reading_engine
from ledger.errors import InvalidArgument
from ledger.maintenance import AsyncMaintenance
from ledger.records.usage import Charging
from ledger.repositories.audit import AsyncAudit
from ledger.repositories.billing import AsyncBilling
from ledger.repositories.binding import AsyncBindable
from ledger.repositories.embedding import serve
from ledger.repositories.expected import ANY, Expected
from ledger.repositories.repository import AsyncRepository
from ledger.repositories.telemetry import AsyncTelemetry
from ledger.repositories.tenancy import AsyncTenancy
from ledger.settings import Settings
from ledger.write.terms import CHARGING, FUTURE_TOLERANCE, Terms, terms_of

Kind = TypeVar("Kind", bound=AsyncRepository)


class AsyncLedger:
    """The ledgers of one database, awaited.

    Made by ``connect``, ``embedded``, ``from_environment`` or ``bound``; closed by ``close``,
    or at the end of an ``async with``.
    """

    telemetry: AsyncTelemetry
    billing: AsyncBilling
    audit: AsyncAudit
    tenancy: AsyncTenancy

    def __init__(  # noqa: PLR0913 - a ledger each
        self,
        *,
        telemetry: AsyncTelemetry,
        billing: AsyncBilling,
        audit: AsyncAudit,
        tenancy: AsyncTenancy,
        engine: AsyncEngine | None,
        closing: AsyncExitStack,
    ) -> None:
        self.telemetry, self.billing, self.audit = telemetry, billing, audit
        self.tenancy = tenancy
        self._engine = engine
        self._closing = closing

    @classmethod
    def connect(
        cls,
        url: str | URL,
        read_url: str | URL | None = None,
        *,
        future_tolerance: timedelta = FUTURE_TOLERANCE,
        charging: Charging = CHARGING,
    ) -> Self:
        """``Ledger.connect``; nothing is to be awaited before the first use."""
        return cls._open(
            url,
            read_url,
            terms=Terms(future_tolerance=future_tolerance, charging=charging),
            closing=AsyncExitStack(),
        )

    @classmethod
    def embedded(
        cls,
        folder: Path | str,
        *,
        future_tolerance: timedelta = FUTURE_TOLERANCE,
        charging: Charging = CHARGING,
    ) -> Embedding:
        """``Ledger.embedded``, for ``async with`` or ``await``: starting takes seconds."""
        return Embedding(folder, Terms(future_tolerance=future_tolerance, charging=charging))

    @classmethod
    def from_environment(cls) -> Self:
        """``Ledger.from_environment``; nothing is to be awaited before the first use."""
        settings = Settings.load()
        return cls._open(
            settings.require_database_url(),
            settings.read_url.get_secret_value() if settings.read_url else None,
            terms=terms_of(settings),
            expected=Expected(storage=settings.storage, percentiles=settings.percentiles),
            closing=AsyncExitStack(),
        )

    @classmethod
    def bound(
        cls,
        source: AsyncBindable,
        *,
        future_tolerance: timedelta = FUTURE_TOLERANCE,
        charging: Charging = CHARGING,
    ) -> Self:
        """``Ledger.bound`` for an AsyncSession or an AsyncConnection of the caller."""
        terms = Terms(future_tolerance=future_tolerance, charging=charging)
        return cls._of(source, terms=terms, closing=AsyncExitStack())

    @property
    def maintenance(self) -> AsyncMaintenance:
        """What keeps the books current. Raises InvalidArgument on a ledger that is bound."""
        if self._engine is None:
            raise InvalidArgument(
                "maintenance commits, so it needs connections of its own; use"
                " AsyncLedger.connect(url)"
            )
        return AsyncMaintenance(self._engine)

    async def close(self) -> None:
        """Close the connections, and stop an embedded server. A caller's stay open."""
        await self._closing.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @classmethod
    def _open(
        cls,
        url: str | URL,
        read_url: str | URL | None,
        *,
        terms: Terms,
        expected: Expected = ANY,
        closing: AsyncExitStack,
    ) -> Self:
        writing, reading = async_engine(url), async_reading_engine(read_url or url)
        closing.push_async_callback(writing.dispose)
        closing.push_async_callback(reading.dispose)
        return cls._of(writing, reading=reading, expected=expected, terms=terms, closing=closing)

    @classmethod
    def _of(
        cls,
        source: AsyncEngine | AsyncBindable,
        *,
        reading: AsyncEngine | None = None,
        expected: Expected = ANY,
        terms: Terms,
        closing: AsyncExitStack,
    ) -> Self:
        def made(kind: type[Kind]) -> Kind:
            return kind(source, reading=reading, expected=expected, terms=terms)

        return cls(
            telemetry=made(AsyncTelemetry),
            billing=made(AsyncBilling),
            audit=made(AsyncAudit),
            tenancy=made(AsyncTenancy),
            engine=source if isinstance(source, AsyncEngine) else None,
            closing=closing,
        )


class Embedding:
    """An embedded ledger that is yet to be opened: by ``async with``, or by ``await``."""

    def __init__(self, folder: Path | str, terms: Terms) -> None:
        self._folder = folder
        self._terms = terms
        self._opened: AsyncLedger | None = None

    def __await__(self) -> Generator[Any, None, AsyncLedger]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncLedger:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def _open(self) -> AsyncLedger:
        server = ExitStack()
        starting = asyncio.create_task(asyncio.to_thread(serve, self._folder, server))
        try:
            url = await asyncio.shield(starting)
        except BaseException:
            # A thread cannot be cancelled: let the start end, then undo it.
            await asyncio.wait([starting])
            await asyncio.to_thread(server.close)
            raise
        closing = AsyncExitStack()
        closing.push_async_callback(asyncio.to_thread, server.close)
        return AsyncLedger._open(  # noqa: SLF001 - two halves of one class
            url, None, terms=self._terms, closing=closing
        )
