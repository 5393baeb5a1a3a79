"""What ``postmaster.pid`` in a data directory says of the server, and whether that is still true.

Nothing but the standard library is imported, as the guardian runs without site-packages.
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROCESSES = Path("/proc")
"""Where Linux tells of processes; macOS has no such folder."""

NO_PROCESS = 2**31 - 1
"""A process id that no system gives out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """The server process of a data directory, as it describes itself."""

    pid: int
    data: str
    sockets: Path
    is_ready: bool

    @classmethod
    def of(cls, data: Path) -> Postmaster | None:
        """The living server of ``data``; None where there is none, or only traces of one."""
        found = cls.recorded(data)
        return found if found is not None and found.is_alive() else None

    @classmethod
    def recorded(cls, data: Path) -> Postmaster | None:
        """The server that ``data`` was last served by, alive or dead."""
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        # The file grows line by line while the server starts; the status is the eighth.
        lines += [""] * (8 - len(lines))
        if not lines[0].strip().isdigit():
            return None
        return cls(
            pid=int(lines[0]),
            data=lines[1],
            sockets=Path(lines[4]),
            is_ready=lines[7].strip() == "ready",
        )

    def is_alive(self) -> bool:
        """Whether the process is there, and is the server of this data."""
        # The kernel gives a dead server's id to another process, soonest in a container; and a
        # zombie has no command line.
        return f"-D {self.data} " in f"{_command_line(self.pid)} "

    def stop(self) -> None:
        """Ask for a fast shutdown: sessions are ended, their transactions rolled back."""
        os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """End the server at once; it recovers from its log when it next starts."""
        os.kill(self.pid, signal.SIGQUIT)


def forget_dead_postmaster(data: Path) -> None:
    """Make a stale ``postmaster.pid`` stop a new server no longer.

    PostgreSQL refuses to start while any process has the recorded id. The file itself must
    stay: by its other lines PostgreSQL finds, and waits out, sessions of a killed server.
    """
    found = Postmaster.recorded(data)
    if found is None or found.is_alive():
        return
    path = data / "postmaster.pid"
    _, *others = path.read_text().splitlines()
    path.write_text("\n".join([str(NO_PROCESS), *others, ""]))


def _command_line(pid: int) -> str:
    if (PROCESSES / "self").exists():
        try:
            return (PROCESSES / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            return ""
    listed = subprocess.run(
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)],
        check=False,
        capture_output=True,
        text=True,
    )
    return listed.stdout.strip()
