"""A ledger in a folder: opened, written to and asked, called and awaited."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import AsyncLedger, InvalidArgument, Ledger
from ledger.embedded.postmaster import Postmaster
from tests.builders import USER, transaction


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach, which pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="ledger-tests-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path, "ledger")


def test_a_folder_is_all_that_a_ledger_needs(folder: Path) -> None:
    with Ledger.embedded(folder) as ledger:
        ledger.telemetry.insert_transaction(transaction(latency_ms=900))
        assert ledger.telemetry.overview(USER, "1H").p50_latency_ms == 900
        assert ledger.maintenance.run().problems == ()
        with ledger._engine.connect() as connection:  # type: ignore[union-attr]
            bound = Ledger.bound(connection)
            assert bound.telemetry.overview(USER, "7D").requests == 1
            with pytest.raises(InvalidArgument, match=r"Ledger\.connect"):
                _ = bound.maintenance
    assert Postmaster.of(folder / "data") is None, "the server ends with the ledger"

    async def asynchronously() -> None:
        async with AsyncLedger.embedded(folder) as ledger:
            await ledger.telemetry.insert_transaction(transaction(latency_ms=901))
            assert (await ledger.telemetry.overview(USER, "1H")).requests == 2
        opened = await AsyncLedger.embedded(folder)
        try:
            assert len(await opened.telemetry.time_series(USER, "1D")) >= 24
        finally:
            await opened.close()
        opening = asyncio.ensure_future(AsyncLedger.embedded(folder).__aenter__())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    asyncio.run(asynchronously())
    assert Postmaster.of(folder / "data") is None, "a cancelled start leaves nothing running"
