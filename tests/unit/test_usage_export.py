"""What is asked for an export, and the file that it goes to: whole, or as it was before."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Dialect, make_url

from ledger.errors import ExportFailed, InvalidArgument
from ledger.queries.csv_cells import CsvExport
from ledger.queries.usage_export import PARTS, usage_export
from ledger.repositories.export_files import Destination, destination
from ledger.repositories.export_outlets import (
    CHUNK_BYTES,
    written_whole,
    written_whole_async,
)
from ledger.window import Window
from tests.builders import USER

NOW = datetime(2026, 6, 15, 12, 34, 56, 789_000, tzinfo=UTC)
DAY = Window(start=NOW - timedelta(days=1), end=NOW)
OLD = b"the file of yesterday\n"


def dialect(driver: str) -> Dialect:
    return make_url(f"postgresql+{driver}://").get_dialect()()


def sql(export: CsvExport, driver: str = "psycopg") -> str:
    return str(export.statement.compile(dialect=dialect(driver)))


# --- what is asked ---


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_values_are_bound_and_never_written_into_the_statement(driver: str) -> None:
    nasty = "'); DROP TABLE ledger.users; --"
    export = usage_export(
        DAY,
        provider=nasty,
        model=nasty,
        user_id=USER,
        tier=nasty,
        status="failed",
        project_id=USER,
    )
    written = sql(export, driver)
    assert nasty not in written
    assert str(USER) not in written
    assert export.parameters == {
        "start": 1_781_440_496_789,
        "end": 1_781_526_896_789,
        **dict.fromkeys(("provider", "model_id", "tier"), nasty),
        **dict.fromkeys(("user_id", "project_id"), str(USER)),
        "status": "failed",
    }


def test_the_same_filters_have_one_statement_whatever_their_values() -> None:
    later = Window(start=NOW, end=NOW + timedelta(days=3))
    one, other = usage_export(DAY, tier="pro"), usage_export(later, tier="free")
    assert one.statement is other.statement
    assert usage_export(DAY).statement is not one.statement


def test_each_row_is_in_the_part_of_exactly_one_index() -> None:
    written = sql(usage_export(DAY))
    conditions = [part.split(" ORDER BY")[0] for part in written.split(" / 1000.0) AND ")[2::2]]
    assert len(conditions) == len(PARTS) == 3
    for kind in ("usage", "adjustment", "refund"):
        for status in ("success", "failed", "cancelled"):
            holding = [_holds(condition, kind, status) for condition in conditions]
            assert holding.count(True) == 1, (kind, status)


def _holds(condition: str, kind: str, status: str) -> bool:
    """Whether a row of that kind and status has what the SQL says."""
    comparisons = condition.replace("<>", "!=").replace(" = ", " == ").replace("AND", "and")
    return bool(eval(comparisons, {"kind": kind, "status": status}))


@pytest.mark.parametrize(
    "named, wrong",
    [
        ({"status": "succeeded"}, "status 'succeeded' is none of success, failed, cancelled"),
        ({"user_id": "me"}, "user_id 'me'"),
        ({"project_id": 7}, "project_id 7"),
        ({"provider": "open\0ai"}, "provider"),
        ({"model": 4}, "model 4"),
        ({"tier": "\ud800"}, "tier"),
    ],
)
def test_wrong_filters_are_named(named: Any, wrong: str) -> None:
    with pytest.raises(InvalidArgument, match=wrong):
        usage_export(DAY, **named)


def test_only_a_window_says_from_where_to_where() -> None:
    with pytest.raises(InvalidArgument, match="'7D' is not a Window"):
        usage_export("7D")  # type: ignore[arg-type]


# --- where it is written ---


def write(to: Any, *pieces: bytes, on_progress: Callable[[int], object] | None = None) -> None:
    with written_whole(destination(to), on_progress) as outlet:
        for piece in pieces:
            outlet.write(piece)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask, expected", [(0o022, 0o644), (0o077, 0o600), (0, 0o666)])
def test_a_new_file_has_the_mode_that_the_umask_gives(
    tmp_path: Path, mask: int, expected: int
) -> None:
    with umask(mask):
        write(tmp_path / "usage.csv", b"a,b\n")
    assert mode(tmp_path / "usage.csv") == expected
    assert (tmp_path / "usage.csv").read_bytes() == b"a,b\n"


def test_a_file_that_is_replaced_keeps_its_mode_and_what_it_is_called(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_bytes(OLD)
    real.chmod(0o640)
    link.symlink_to(real)
    with umask(0o022):
        write(link, b"new\n")
    assert link.is_symlink()
    assert (real.read_bytes(), mode(real)) == (b"new\n", 0o640)
    assert sorted(tmp_path.iterdir()) == [link, real]


def test_a_path_may_be_text_relative_and_as_long_as_a_name_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("n" * 255, b"new\n")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"new\n"


@pytest.mark.parametrize(
    "path, reason",
    [
        ("nowhere/usage.csv", "No such file or directory"),
        ("file/usage.csv", "Not a directory"),
        ("", "not an ordinary file"),
        ("folder", "not an ordinary file"),
        ("pipe", "not an ordinary file"),
        ("nul\0.csv", "null"),
        ("n" * 256, "File name too long"),
    ],
)
def test_a_path_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(OLD)
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ExportFailed, match=reason) as failed:
        write(path, b"new\n")
    assert failed.value.path == path
    assert str(failed.value).startswith(f"{path} cannot be written: ")
    assert sorted(tmp_path.iterdir()) == before


def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(ExportFailed, match="pass the open file"):
        write(os.devnull, b"new\n")
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("older", [None, OLD])
def test_whatever_is_raised_nothing_is_left_and_an_older_file_stays(
    tmp_path: Path, error: type[BaseException], older: bytes | None
) -> None:
    path = tmp_path / "usage.csv"
    if older is not None:
        path.write_bytes(older)

    def stop(written: int) -> None:
        (part,) = tmp_path.glob(".ledger-export-*.part")
        assert part.stat().st_size == written == 3 * CHUNK_BYTES
        raise error

    with pytest.raises(error):
        write(path, b"x" * 3 * CHUNK_BYTES, on_progress=stop)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == ([] if older is None else [older])


def test_a_rename_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    with pytest.raises(ExportFailed, match=r"usage\.csv cannot be written: Is a directory"):
        write(path, b"new\n", on_progress=lambda _: path.mkdir())
    assert list(tmp_path.iterdir()) == [path]


# --- an open file ---


def test_an_open_file_is_written_from_where_it_stands_and_stays_open(tmp_path: Path) -> None:
    with (tmp_path / "usage.csv").open("wb") as file:
        file.write(b"# ours\n")
        write(file, b"a,b\n", b"1,2\n")
        assert (tmp_path / "usage.csv").read_bytes() == b"# ours\na,b\n1,2\n"
        file.write(b"# more\n")


def test_a_file_may_keep_what_it_is_given() -> None:
    class Pieces(list[bytes]):
        def write(self, data: bytes) -> None:
            self.append(data)

    pieces = Pieces()
    write(pieces, *(bytes([number]) * CHUNK_BYTES for number in range(3)), b"rest")
    assert [*map(len, pieces)] == [0, CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES, 4]
    assert b"".join(pieces) == b"".join(bytes([n]) * CHUNK_BYTES for n in range(3)) + b"rest"


def test_a_pipe_that_takes_less_than_it_is_given_gets_all_of_it() -> None:
    sent = os.urandom(3 * CHUNK_BYTES + 7)
    read, written = os.pipe()
    received = io.BytesIO()

    def receive() -> None:
        with os.fdopen(read, "rb") as reading:
            received.write(reading.read())

    reader = threading.Thread(target=receive)
    reader.start()
    with os.fdopen(written, "wb", buffering=0) as file:
        write(file, sent)
    reader.join()
    assert received.getvalue() == sent


def test_a_pipe_that_would_have_to_be_waited_for_is_an_error_and_not_a_gap() -> None:
    read, written = os.pipe()
    os.set_blocking(written, False)
    with (
        os.fdopen(read, "rb"),
        os.fdopen(written, "wb", buffering=0) as file,
        pytest.raises(BlockingIOError),
    ):
        write(file, b"x" * 3 * CHUNK_BYTES)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_what_an_open_file_raises_passes_as_it_is() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(OSError, match="No space left"),
    ):
        write(full, b"a,b\n")
    with pytest.raises(ValueError, match="closed file"):
        write(full, b"a,b\n")


def test_a_file_of_text_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with (
        (tmp_path / "usage.csv").open("w") as text,
        pytest.raises(InvalidArgument, match='mode "wb"'),
    ):
        write(text, b"a,b\n")
    with pytest.raises(InvalidArgument, match='mode "wb"'):
        write(io.StringIO(), b"a,b\n")


@pytest.mark.parametrize("to", [None, 1, b"usage.csv", object()])
def test_what_is_neither_a_path_nor_a_file_is_refused(to: Any) -> None:
    with pytest.raises(InvalidArgument, match="neither a path nor a file"):
        destination(to)


# --- progress, and threads ---


def test_progress_is_the_bytes_that_are_written_and_ends_with_all_of_them(tmp_path: Path) -> None:
    told: list[int] = []
    path = tmp_path / "usage.csv"
    with written_whole(destination(path), told.append) as outlet:
        for _ in range(2 * CHUNK_BYTES // 64 + 1):
            outlet.write(b"x" * 64)
            (part,) = tmp_path.iterdir()
            assert part.stat().st_size == (told[-1] if told else 0)
    assert told == [CHUNK_BYTES, 2 * CHUNK_BYTES, path.stat().st_size]


class Slow(Destination):
    """Takes as long to write as the test says, and tells what was done to it, in order."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.done: list[str] = []

    def open(self) -> None:
        self.done.append("open")

    def write(self, data: bytes) -> None:
        self.begun.set()
        self.go_on.wait(30)
        self.done.append(f"write {len(data)}")

    def settle(self) -> None:
        self.done.append("settle")

    def publish(self) -> None:
        self.done.append("publish")

    def discard(self) -> None:
        self.done.append("discard")


async def exported(slow: Destination) -> None:
    async with written_whole_async(slow, None) as outlet:
        assert outlet.gather(b"x" * CHUNK_BYTES)
        await outlet.flush()


async def test_the_loop_goes_on_while_a_file_is_written() -> None:
    slow = Slow()
    task = asyncio.create_task(exported(slow))
    await asyncio.to_thread(slow.begun.wait, 30)
    assert not task.done()
    slow.go_on.set()
    await task
    assert slow.done == ["open", f"write {CHUNK_BYTES}", "settle", "publish"]


async def test_a_cancelled_task_removes_the_file_when_nothing_writes_to_it_any_more() -> None:
    slow = Slow()
    task = asyncio.create_task(exported(slow))
    await asyncio.to_thread(slow.begun.wait, 30)
    for _ in range(2):  # an impatient caller
        task.cancel()
        await asyncio.wait([task], timeout=0.01)
    assert slow.done == ["open"]
    slow.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.done == ["open", f"write {CHUNK_BYTES}", "discard"]
