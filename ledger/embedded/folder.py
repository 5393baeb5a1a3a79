"""The folder of an embedded PostgreSQL: whose it is, its password, and where its socket lies."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.embedded.errors import EmbeddedFailed
from ledger.embedded.openers import TURN_LOCK

if TYPE_CHECKING:
    from ledger.embedded.account import Account

PASSWORD = "password"  # noqa: S105 - the file's name

LONGEST_SOCKET_FOLDER = 103 - len("/.s.PGSQL.5432.lock")
"""A socket's whole path may have 107 bytes on Linux and 103 on macOS."""

_SAME_IN_EVERY_URL = re.compile(r"[\w./~-]+", re.ASCII)


def claim(folder: Path, account: Account) -> None:
    """Make ``folder`` ours: new, empty, or an earlier one of ours.

    Raises EmbeddedFailed for anything else, as it will be closed to other users, and where the
    server's user has no way to it.
    """
    account.make_folder(folder)
    try:
        names = {path.name for path in folder.iterdir()}
        if not names:
            os.chown(folder, account.uid, account.gid)
            folder.chmod(0o700)
    except (PermissionError, NotADirectoryError) as error:
        raise EmbeddedFailed(f"{folder} cannot hold a database: {error}") from error
    if names and TURN_LOCK not in names:
        raise EmbeddedFailed(
            f"{folder} holds other files, such as {min(names)!r}; name a new or an empty folder"
        )
    if not account.reaches(folder):
        raise EmbeddedFailed(
            f"PostgreSQL runs as the user {account.name!r}, since it refuses to run as root, and"
            f" that user has no way into {folder}; choose a folder outside root's own, such as"
            " /var/lib/ledger"
        )


def password_of(folder: Path, account: Account) -> str:
    with os.fdopen(account.open_file(folder / PASSWORD), "r+") as file:
        if not (password := file.read()):
            password = secrets.token_urlsafe(24)
            file.write(password)
    return password


def socket_folder(folder: Path, account: Account) -> Path:
    inside = folder / "sockets"
    # A comma or a colon in a host means something to libpq and to SQLAlchemy, and they differ on
    # how a URL has a space.
    if len(str(inside)) <= LONGEST_SOCKET_FOLDER and _SAME_IN_EVERY_URL.fullmatch(str(inside)):
        account.make_folder(inside)
        return inside
    # Not tempfile's default, which is long itself on macOS. Other openers read the name from
    # postmaster.pid.
    outside = Path(tempfile.mkdtemp(prefix="ledger-", dir="/tmp"))
    os.chown(outside, account.uid, account.gid)
    return outside


def forget_sockets(sockets: Path, folder: Path) -> None:
    if not sockets.is_relative_to(folder):
        shutil.rmtree(sockets, ignore_errors=True)
