"""Runs the server of a folder, and stops it when nobody has the folder open any more.

It is a process of its own, started by the first opener, so that even openers that are killed
leave nothing running. Nothing but the standard library is imported: it starts in 20 ms.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, NoReturn, TypedDict

if TYPE_CHECKING:
    from ledger.embedded.account import Identity


class Charge(TypedDict):
    """What a guardian is told: the server to run, and the lock that says who needs it."""

    command: list[str]
    environment: dict[str, str]
    identity: Identity
    log: str
    openers_lock: str


def guard(charge: Charge) -> None:
    """Run the server until it ends by itself or nobody needs it."""
    # Its openers hold the lock shared; the kernel takes it from the dead.
    lock = os.open(charge["openers_lock"], os.O_RDWR)
    with open(charge["log"], "ab") as log:  # noqa: PTH123 - pathlib takes as long as all the rest
        server = subprocess.Popen(
            charge["command"],
            env=charge["environment"],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A Ctrl-C in the terminal is meant for the opener.
            start_new_session=True,
            **charge["identity"],
        )
    # The opener that waits for the server reads the end of this pipe as the server's end.
    threading.Thread(target=_leave_with, args=[server], daemon=True).start()
    fcntl.flock(lock, fcntl.LOCK_EX)
    server.send_signal(signal.SIGINT)
    # The lock is kept until the server has ended, so that the next opener waits for that.
    server.wait()


def _leave_with(server: subprocess.Popen[bytes]) -> NoReturn:
    server.wait()
    os._exit(0)


def main() -> None:
    charge: Charge = json.load(sys.stdin)
    # A child of nobody: no opener must outlive it to collect its exit status.
    if os.fork() == 0:
        guard(charge)


if __name__ == "__main__":
    main()
