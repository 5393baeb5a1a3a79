"""Where an export is written: a path, replaced as a whole, or a file that the caller opened."""

from __future__ import annotations

import io
import os
import secrets
import stat
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ledger.errors import ExportFailed, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator


class BinaryFile(Protocol):
    """Anything that takes bytes: what ``open(path, "wb")`` gives, ``sys.stdout.buffer``."""

    def write(self, data: bytes, /) -> object: ...


WhereTo: TypeAlias = "str | os.PathLike[str] | BinaryFile"


class Destination(ABC):
    """What bytes are written to: opened, written, settled, published; or discarded."""

    @abstractmethod
    def open(self) -> None:
        """Make sure that it can be written."""

    @abstractmethod
    def write(self, data: bytes) -> None: ...

    @abstractmethod
    def settle(self) -> None:
        """Have what was written reach the disk; this may take its time."""

    @abstractmethod
    def publish(self) -> None:
        """Show the whole; this takes no time, and nothing is left that may fail after it."""

    @abstractmethod
    def discard(self) -> None:
        """Leave nothing, at any point before `publish` has ended."""


def destination(to: WhereTo) -> Destination:
    """Where that is. Raises InvalidArgument for what is neither a path nor a file."""
    if isinstance(to, (str, os.PathLike)):
        return _Replaced(os.fspath(to))
    if not callable(getattr(to, "write", None)):
        raise InvalidArgument(f"to {to!r} is neither a path nor a file open for writing")
    return _Opened(to)


class _Replaced(Destination):
    """A path, at which there is the whole export or what was there before.

    It is written beside itself, so that the last step is a rename within one file system. Of a
    program that is killed outright, `.ledger-export-*.part` is left.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._target = self._part = ""
        self._file: io.FileIO | None = None

    def open(self) -> None:
        with self._failing():
            # What a link points to is replaced, as it would be written, and not the link.
            self._target = os.path.realpath(self._path)
            mode = self._mode()
            name = f".ledger-export-{secrets.token_hex(8)}.part"
            self._part = os.path.join(os.path.dirname(self._target), name)  # noqa: PTH118, PTH120
            # Not by tempfile, whose files nobody else may read: the umask decides, as it does
            # for any file, and for one that is replaced its own mode.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = os.open(self._part, flags, 0o666 if mode is None else mode)
            self._file = io.FileIO(descriptor, "w")
            if mode is not None:
                os.fchmod(descriptor, mode)

    def write(self, data: bytes) -> None:
        assert self._file is not None
        with self._failing():
            _write_all(self._file, data)

    def settle(self) -> None:
        assert self._file is not None
        with self._failing():
            # Or a rename might survive a power cut that the content does not.
            os.fsync(self._file.fileno())
            self._file.close()

    def publish(self) -> None:
        with self._failing():
            os.replace(self._part, self._target)  # noqa: PTH105

    def discard(self) -> None:
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        if self._part:
            with suppress(OSError):
                os.unlink(self._part)  # noqa: PTH108

    def _mode(self) -> int | None:
        """The mode of the file that is there; None where there is none."""
        try:
            found = os.stat(self._target)  # noqa: PTH116
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            # A device or a pipe would be replaced like a file.
            raise ExportFailed(
                self._path, "it is not an ordinary file; open it yourself, and pass the open file"
            )
        return stat.S_IMODE(found.st_mode)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # the latter for a path with a NUL
            reason = getattr(error, "strerror", None) or str(error)
            raise ExportFailed(self._path, reason) from error


class _Opened(Destination):
    """A file of the caller's, which is written from where it stands, and stays open.

    What it raises passes as it is, and what was written before stays.
    """

    def __init__(self, file: BinaryFile) -> None:
        self._file = file

    def open(self) -> None:
        try:
            self._file.write(b"")
        except TypeError as error:
            raise InvalidArgument(
                f"to {self._file!r} takes text, and an export is bytes, in UTF-8; open the file"
                ' with mode "wb", or pass its `buffer`'
            ) from error

    def write(self, data: bytes) -> None:
        if isinstance(self._file, io.RawIOBase):
            _write_all(self._file, data)
        else:
            self._file.write(data)

    def settle(self) -> None:
        flush = getattr(self._file, "flush", None)
        if callable(flush):
            flush()

    def publish(self) -> None:
        pass

    def discard(self) -> None:
        pass


def _write_all(file: io.RawIOBase, data: bytes) -> None:
    """All of it: a file without a buffer may take less than it is given, as a pipe does."""
    rest = memoryview(data)
    while rest:
        written = file.write(rest)
        if written is None:
            raise BlockingIOError("the file takes no more for now; open one that waits")
        rest = rest[written:]
