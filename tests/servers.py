"""PostgreSQL servers that tests can run on, each started when first needed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, make_url

from ledger.embedded import EmbeddedPostgres
from ledger.embedded.account import Account
from ledger.embedded.cluster import Cluster
from ledger.embedded.openers import Openers
from ledger.embedded.programs import installed_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

THROWAWAY = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
}
"""Settings of a server whose data nobody will miss."""

TIMESCALE = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    # A scheduler for each database that tests make, and its jobs, at the same time.
    "timescaledb.max_background_workers": "16",
    "max_worker_processes": "40",
    # The launcher would give a scheduler to each database within a minute, so that policies ran
    # in tests that last long, and in no others. start_background_workers() still gives one.
    "timescaledb.bgw_launcher_poll_time": "86400000",
}
"""Settings of a server with TimescaleDB, whose jobs run when a test asks for them."""

IN_MEMORY, ROOM = Path("/dev/shm"), 8 << 30
"""Where a server's data lies if there is that room, in bytes; in a container there rarely is."""


class Server(ABC):
    """A PostgreSQL on which databases can be made."""

    name: str
    major: int
    has_timescale: bool
    has_toolkit: bool

    def __init__(self) -> None:
        self._leave: list[Callable[[], object]] = []

    @cached_property
    def url(self) -> URL:
        """The maintenance database; the server is started by the first who asks."""
        return self._start()

    def stop(self) -> None:
        """Stop what was started, and remove its data."""
        while self._leave:
            self._leave.pop()()

    @cached_property
    def _maintenance(self) -> psycopg.Connection[Any]:
        """Kept, as each test makes a database and drops it."""
        connection = psycopg.connect(libpq(self.url), autocommit=True)
        self._leave.append(connection.close)
        return connection

    def execute(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of one statement, run outside a transaction as a superuser."""
        if database is None:
            return _rows(self._maintenance, statement)
        url = libpq(self.url.set(database=database))
        with psycopg.connect(url, autocommit=True) as connection:
            return _rows(connection, statement)

    @abstractmethod
    def _start(self) -> URL: ...


def _rows(connection: psycopg.Connection[Any], statement: str) -> list[tuple[Any, ...]]:
    cursor = connection.execute(statement.encode())
    return cursor.fetchall() if cursor.description is not None else []


class Embedded(Server):
    """The PostgreSQL of the `embedded` extra."""

    has_timescale = False
    has_toolkit = False

    def __init__(self) -> None:
        super().__init__()
        self.major = int(installed_version().partition(".")[0])
        self.name = f"embedded-postgres{self.major}"

    def _start(self) -> URL:
        folder = temporary_folder(self._leave)
        server = EmbeddedPostgres.start(folder, settings=THROWAWAY)
        self._leave.append(server.stop)
        return make_url(server.url).set(database="postgres")


class Installed(Server):
    """A PostgreSQL of this machine that has TimescaleDB, run on data of our own."""

    has_timescale = True

    def __init__(self, programs: Path) -> None:
        super().__init__()
        self._programs = programs
        # It says: postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
        version = _output(programs / "postgres", "--version").split()[2]
        self.major = int(version.partition(".")[0])
        self.name = f"postgres{self.major}"
        self.has_toolkit = (extensions(programs) / "timescaledb_toolkit.control").exists()

    def _start(self) -> URL:
        folder = temporary_folder(self._leave)
        account = Account.for_folder(folder)
        folder.chmod(0o700)
        shutil.chown(folder, account.uid, account.gid)
        openers = Openers(folder, account)
        openers.join()
        self._leave.append(openers.close)
        password = folder / "password"
        password.write_text("a throwaway's password")
        shutil.chown(password, account.uid, account.gid)
        cluster = Cluster(
            programs=self._programs,
            data=folder / "data",
            log=folder / "server.log",
            account=account,
        )
        cluster.initialise(superuser="ledger", password=password, options=["--locale=C.UTF-8"])
        cluster.start(
            sockets=folder,
            settings={"listen_addresses": "", "timezone": "UTC"} | THROWAWAY | TIMESCALE,
            openers_lock=openers.lock_path,
        )
        self._leave.append(cluster.stop)
        return URL.create(
            "postgresql+psycopg",
            username="ledger",
            password=password.read_text(),
            database="postgres",
            query={"host": str(folder), "port": "5432"},
        )


class Given(Server):
    """The server that LEDGER_TEST_DATABASE_URL names; databases on it are dropped at the end."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._given = make_url(url).set(drivername="postgresql+psycopg")
        found = self.execute(
            "SELECT current_setting('server_version_num')::int / 10000,"
            " current_setting('shared_preload_libraries') LIKE '%timescaledb%',"
            " EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb_toolkit')"
        )
        self.major, self.has_timescale, self.has_toolkit = found[0]
        self.name = f"given-postgres{self.major}"

    def _start(self) -> URL:
        return self._given


class Docker(Server):
    """The timescaledb-ha image, which has TimescaleDB and its toolkit."""

    image = "timescale/timescaledb-ha:pg17"
    name = "docker-postgres17"
    major = 17
    has_timescale = True
    has_toolkit = True

    def _start(self) -> URL:
        # Imported late: it looks for an engine, and most machines have none.
        from testcontainers.postgres import PostgresContainer  # noqa: PLC0415

        options = " ".join(f"-c {name}={value}" for name, value in (THROWAWAY | TIMESCALE).items())
        container = PostgresContainer(self.image, username="ledger", driver="psycopg")
        container.with_command(f"postgres {options}").start()
        self._leave.append(container.stop)
        return make_url(container.get_connection_url()).set(database="postgres")


def libpq(url: URL) -> str:
    """The URL as libpq reads it."""
    # Not as a URL: SQLAlchemy leaves a space in a password, and libpq refuses it.
    arguments = url.translate_connect_args(username="user", database="dbname")
    return make_conninfo("", **arguments, **{key: str(value) for key, value in url.query.items()})


def temporary_folder(leave: list[Callable[[], object]]) -> Path:
    """A folder that is removed on leaving, with a name short enough for a socket."""
    # A database is some 500 files: made in 20 ms in memory, and in up to 600 on a disk.
    is_roomy = IN_MEMORY.exists() and shutil.disk_usage(IN_MEMORY).free >= ROOM
    folder = tempfile.mkdtemp(prefix="ledger-tests-", dir=IN_MEMORY if is_roomy else "/tmp")
    leave.append(lambda: shutil.rmtree(folder))
    return Path(folder)


def installed_with_timescale() -> Sequence[Path]:
    """The bin folders of PostgreSQL in the usual places that have TimescaleDB, newest first."""
    patterns = [
        "usr/lib/postgresql/*/bin",
        "usr/pgsql-*/bin",
        "opt/homebrew/opt/postgresql@*/bin",
        "usr/local/opt/postgresql@*/bin",
    ]
    places = [place for pattern in patterns for place in Path("/").glob(pattern)]
    if named := _output("pg_config", "--bindir"):
        places.append(Path(named))
    programs = {place.resolve() for place in places if (place / "initdb").exists()}
    return sorted(
        (place for place in programs if (extensions(place) / "timescaledb.control").exists()),
        reverse=True,
    )


def extensions(programs: Path) -> Path:
    """Where a PostgreSQL keeps the control files of its extensions."""
    return Path(_output(programs / "pg_config", "--sharedir"), "extension")


def docker_answers() -> bool:
    """Whether a Docker engine answers, and quickly."""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            check=False,
            capture_output=True,
            timeout=3,
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def _output(program: str | Path, question: str) -> str:
    """What the program answers; nothing where there is no such program, or it fails."""
    if shutil.which(program) is None:
        return ""
    asked = subprocess.run([program, question], check=False, capture_output=True, text=True)
    return asked.stdout.strip()
