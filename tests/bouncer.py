"""A PgBouncer in transaction mode, in front of a database of a test's own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from ledger.embedded.account import Account
from tests.catalogues import until
from tests.servers import libpq

PORT = "6432"


def program() -> Path | None:
    """PgBouncer, if it is installed; Debian puts it where only root looks."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    return None if found is None else Path(found)


@contextmanager
def bouncing(pgbouncer: Path, url: str) -> Iterator[URL]:
    """The URL of that database by way of a PgBouncer that has one connection to it."""
    with ExitStack() as closing:
        # Not pytest's, which the server's user may have no way into.
        made = tempfile.TemporaryDirectory(prefix="ledger-tests-", dir="/tmp")
        folder = Path(closing.enter_context(made))
        target = make_url(url)
        account = Account.for_folder(folder)
        configuration = _configure(folder, target)
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, account.uid, account.gid)
        running = subprocess.Popen(
            [pgbouncer, "--quiet", configuration], cwd="/", **account.identity()
        )
        closing.callback(running.wait)
        closing.callback(running.terminate)
        through = target.set(host=None, port=None, query={"host": str(folder), "port": PORT})
        until(lambda: _answers(through), "PgBouncer")
        yield through


def _configure(folder: Path, target: URL) -> Path:
    host = target.query.get("host") or target.host
    port = target.query.get("port") or target.port or 5432
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"""[databases]
{target.database} = host={host} port={port}
[pgbouncer]
pool_mode = transaction
default_pool_size = 1
auth_type = scram-sha-256
auth_file = {folder}/users
unix_socket_dir = {folder}
listen_port = {PORT}
logfile = {folder}/log
"""
    )
    name, password = (
        str(value or "").replace('"', '""') for value in (target.username, target.password)
    )
    (folder / "users").write_text(f'"{name}" "{password}"\n')
    return configuration


def _answers(url: URL) -> bool:
    try:
        psycopg.connect(libpq(url)).close()
    except psycopg.OperationalError:
        return False
    return True
