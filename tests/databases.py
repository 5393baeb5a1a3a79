"""Which databases there are to test on, and a fresh one for every test.

A target is a server, a storage and an encoding of percentiles. Each is migrated once into a
template; a test's database is a copy of that, made in some 20 ms.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Protocol

from ledger.settings import Percentiles, Storage
from tests.servers import (
    Docker,
    Embedded,
    Given,
    Installed,
    Server,
    docker_answers,
    installed_with_timescale,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

GIVEN = "LEDGER_TEST_DATABASE_URL"
_STOP_JOBS = "SELECT _timescaledb_functions.stop_background_workers()"

_numbers = count()
"""Of the databases made in this run, whoever makes them."""


class Migrate(Protocol):
    """Brings a database to a revision."""

    def __call__(
        self, url: str, revision: str = "head", *, storage: Storage, percentiles: Percentiles
    ) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One way in which the ledger can be installed here."""

    name: str
    server: Server
    storage: Storage
    percentiles: Percentiles

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A kind of database that was looked for, what there is of it, and else why not."""

    kind: str
    servers: tuple[Server, ...] = ()
    missing: str = ""

    def __str__(self) -> str:
        found = ", ".join(server.name for server in self.servers)
        return f"{self.kind}: {found or self.missing}"


def look_around() -> list[Finding]:
    """Every kind of database that tests can run on. No server is started."""
    given = (Given(url),) if (url := os.environ.get(GIVEN)) else ()
    findings = [
        Finding(kind="given", servers=given, missing=f"{GIVEN} is not set"),
        Finding(kind="embedded", servers=(Embedded(),)),
    ]
    installed = tuple(Installed(programs) for programs in installed_with_timescale())
    findings.append(
        Finding(
            kind="installed",
            servers=installed,
            missing="no PostgreSQL with TimescaleDB is installed on this machine",
        )
    )
    docker = (Docker(),) if docker_answers() else ()
    findings.append(
        Finding(kind="docker", servers=docker, missing="no Docker engine answers on this machine")
    )
    has_toolkit = tuple(
        server for finding in findings for server in finding.servers if server.has_toolkit
    )
    findings.append(
        Finding(
            kind="toolkit",
            servers=has_toolkit,
            missing="no server here has timescaledb_toolkit, so that uddsketch is not tested",
        )
    )
    return findings


def targets_on(servers: Iterable[Server]) -> list[Target]:
    """Every storage and encoding that these servers offer, under a name of its own."""
    targets: dict[str, Target] = {}
    for server in dict.fromkeys(servers):
        for name, storage, percentiles in _offers(server):
            unique = name if name not in targets else f"{name}-on-{server.name}"
            targets[unique] = Target(
                name=unique, server=server, storage=storage, percentiles=percentiles
            )
    return list(targets.values())


def one_of_each_storage(targets: Sequence[Target]) -> list[Target]:
    """The first there is: on two servers, of two versions, wherever there are two."""
    return [*{target.storage: target for target in reversed(targets)}.values()][::-1]


def _offers(server: Server) -> Iterator[tuple[str, Storage, Percentiles]]:
    # Plain on a server with TimescaleDB too: there the extension is not made in the database.
    yield server.name, Storage.POSTGRES, Percentiles.HISTOGRAM
    if server.has_timescale:
        yield "timescale-histogram", Storage.TIMESCALE, Percentiles.HISTOGRAM
    if server.has_toolkit:
        yield "timescale-uddsketch", Storage.TIMESCALE, Percentiles.UDDSKETCH


@dataclass(kw_only=True)
class Databases:
    """Makes databases, and drops what it made."""

    migrate: Migrate
    _made: dict[str, Server] = field(default_factory=dict)
    _templates: dict[Target, str] = field(default_factory=dict)

    def create(self, server: Server, *, template: str = "template0") -> str:
        """The name of a new database."""
        name = f"ledger_test_{os.getpid()}_{next(_numbers)}"
        # Of a template that nobody is connected to, its files are all there is to copy.
        server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        self._made[name] = server
        return name

    def drop(self, name: str) -> None:
        """Drop a database that was made here, whoever is connected to it."""
        server = self._made.pop(name)
        server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def drop_all(self) -> None:
        for name in list(self._made):
            self.drop(name)

    def template(self, target: Target) -> str:
        """The migrated database of a target, made by the first who asks."""
        if target not in self._templates:
            name = self.create(target.server)
            for revision in ("0001", "head"):
                self.migrate(
                    self.url(target.server, name),
                    revision,
                    storage=target.storage,
                    percentiles=target.percentiles,
                )
                if target.storage is Storage.TIMESCALE:
                    # The first brings the extension; later ones take long enough for a job that
                    # they make to run before they have ended.
                    target.server.execute(_STOP_JOBS, name)
            self._close_to_all(target, name)
            self._templates[target] = name
        return self._templates[target]

    def url(self, server: Server, name: str) -> str:
        return server.url.set(database=name).render_as_string(hide_password=False)

    def _close_to_all(self, target: Target, name: str) -> None:
        """Keep everybody out, as a database that somebody is connected to cannot be copied."""
        execute: Callable[..., object] = target.server.execute
        if target.storage is Storage.TIMESCALE:
            # Or the scheduler comes back as soon as it is ended.
            execute(_STOP_JOBS, name)
        execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            f" WHERE datname = '{name}'"
        )
