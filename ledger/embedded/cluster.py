"""One PostgreSQL data directory: made by initdb, served by a guarded postgres, stopped."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.embedded import guardian
from ledger.embedded.account import Account, server_environment
from ledger.embedded.errors import EmbeddedFailed
from ledger.embedded.postmaster import Postmaster, forget_dead_postmaster

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START_SECONDS = 90.0
"""Recovery of a crashed server is part of its start."""

FAST_STOP_SECONDS = 30.0
"""After which a shutdown that waits for a checkpoint gives way to one that does not."""

_STILL_IN_USE = "pre-existing shared memory block"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A data directory, the programs that serve it, and the user that owns it."""

    programs: Path
    data: Path
    log: Path
    account: Account

    def initialise(self, *, superuser: str, password: Path, options: Sequence[str]) -> None:
        """Make the data directory unless it is made; half-made ones do not count.

        Every connection has to give the password in the file ``password``.
        """
        if (self.data / "PG_VERSION").exists():
            return
        unfinished = self.data.with_name(f"{self.data.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        self.account.make_folder(unfinished)
        made = self.account.run(
            [
                self.programs / "initdb",
                f"--pgdata={unfinished}",
                f"--username={superuser}",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                *options,
            ]
        )
        if made.returncode != 0:
            raise EmbeddedFailed(f"initdb could not make {self.data}:\n{made.stdout}{made.stderr}")
        unfinished.rename(self.data)

    def running(self) -> Postmaster | None:
        """The server, if it runs, once it is ready for connections.

        Raises EmbeddedFailed with the server's log where it does not get ready.
        """
        deadline = time.monotonic() + START_SECONDS
        while (running := Postmaster.of(self.data)) is not None and not running.is_ready:
            if time.monotonic() > deadline:
                raise EmbeddedFailed.with_log(f"PostgreSQL in {self.data} is not ready", self.log)
            time.sleep(0.02)
        return running

    def start(
        self, *, sockets: Path, settings: Mapping[str, str], openers_lock: Path
    ) -> Postmaster:
        """Start the server, and return when it is ready for connections.

        Raises EmbeddedFailed with the server's log where it does not start.
        """
        forget_dead_postmaster(self.data)
        command = [str(self.programs / "postgres"), "-D", str(self.data), "-k", str(sockets)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        deadline = time.monotonic() + START_SECONDS
        while (started := self._attempt(command, openers_lock, deadline)) is None:
            # Sessions of a killed server notice within a moment that it is gone, and leave.
            if _STILL_IN_USE not in self._last_words() or time.monotonic() > deadline:
                raise EmbeddedFailed.with_log(f"PostgreSQL did not start in {self.data}", self.log)
            time.sleep(0.1)
        return started

    def stop(self) -> None:
        """Stop the server, if it runs, and return when it has ended."""
        deadline = time.monotonic() + FAST_STOP_SECONDS
        running = Postmaster.of(self.data)
        if running is None:
            return
        running.stop()
        while (running := Postmaster.of(self.data)) is not None:
            if time.monotonic() > deadline:
                running.kill()
            time.sleep(0.01)

    def _attempt(
        self, command: list[str], openers_lock: Path, deadline: float
    ) -> Postmaster | None:
        log = self.account.open_file(self.log)
        os.lseek(log, 0, os.SEEK_END)
        charge = guardian.Charge(
            command=command,
            environment=server_environment(),
            identity=self.account.identity(),
            log=str(self.log),
            openers_lock=str(openers_lock),
        )
        reader, writer = os.pipe()
        try:
            _launch(charge, writer=writer, log=log)
            while time.monotonic() < deadline:
                found = Postmaster.of(self.data)
                if found is not None and found.is_ready:
                    return found
                # The guardian ends when the server does, and with it the last writer.
                if select.select([reader], [], [], 0.02)[0]:
                    break
        finally:
            os.close(reader)
            os.close(log)
        return None

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])


def _launch(charge: guardian.Charge, *, writer: int, log: int) -> None:
    """Leave the server to a guardian, which alone keeps ``writer`` open."""
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", guardian.__file__],
            check=True,
            cwd="/",
            # Not as an argument: those every user can read, and the environment has secrets.
            input=json.dumps(charge).encode(),
            stdout=writer,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(writer)
