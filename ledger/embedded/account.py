"""The operating-system user that a PostgreSQL server runs as, since it refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from ledger.embedded.errors import EmbeddedFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

VARIABLE = "LEDGER_EMBEDDED_USER"
"""Names the user to run as when we are root; `postgres` unless set."""


class Identity(TypedDict):
    """Arguments of ``subprocess.Popen``; root's own groups would go along without the last."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user, and its main group."""

    name: str
    uid: int
    gid: int

    @classmethod
    def for_folder(cls, folder: Path) -> Account:
        """Ourselves, or, when we are root, the folder's owner, else the user meant for servers.

        Raises EmbeddedFailed where root has no user to run a server as.
        """
        if os.geteuid() != 0:
            return cls(name="", uid=os.geteuid(), gid=os.getegid())
        if folder.exists() and (owner := folder.stat()).st_uid != 0:
            return cls(name=folder.owner(), uid=owner.st_uid, gid=owner.st_gid)
        name = os.environ.get(VARIABLE) or "postgres"
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            entry = None
        if entry is None or entry.pw_uid == 0:
            raise EmbeddedFailed(
                f"PostgreSQL refuses to run as root, and there is no user {name!r} to run it as:"
                f" make one (useradd --system postgres), name another in {VARIABLE}, or do not"
                " run as root"
            )
        return cls(name=name, uid=entry.pw_uid, gid=entry.pw_gid)

    def make_folder(self, folder: Path) -> None:
        """Make ``folder`` ours alone, unless it is there."""
        try:
            folder.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            return
        os.chown(folder, self.uid, self.gid)

    def open_file(self, path: Path) -> int:
        """A descriptor of ``path``, made if need be, ours alone; the caller closes it."""
        # Root must not be led elsewhere by a link that the folder's owner made.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise EmbeddedFailed(f"{path.parent} cannot be used: {error}") from error
        os.fchown(descriptor, self.uid, self.gid)
        return descriptor

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run ``command`` as this user and wait for its end."""
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            # The user may have no way into the folder that we stand in.
            cwd="/",
            env=server_environment(),
            **self.identity(),
        )

    def identity(self) -> Identity:
        """What makes ``subprocess`` run as this user, and as nothing more."""
        if os.geteuid() != 0:
            return Identity(user=None, group=None, extra_groups=None)
        return Identity(user=self.uid, group=self.gid, extra_groups=[])

    def reaches(self, path: Path) -> bool:
        """Whether every folder above ``path`` lets this user through."""
        return self.run(["/bin/sh", "-c", 'test -x "$0"', path]).returncode == 0


def server_environment() -> dict[str, str]:
    """Our environment, without what would send the server's programs to another server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}
