"""What every test can ask for: a target, and a database of its own there."""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING

import pytest

from ledger.settings import Storage
from tests.databases import (
    Databases,
    Finding,
    Migrate,
    Target,
    look_around,
    one_of_each_storage,
    targets_on,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.mark import ParameterSet

FINDINGS = pytest.StashKey[list[Finding]]()
TARGETS = pytest.StashKey[list[Target]]()
USUAL = pytest.StashKey[list[Target]]()
"""One of each storage, for tests that hold on all servers and encodings if they hold there."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--databases",
        metavar="NAMES",
        default="",
        help="run every test on these, by the beginnings of their names: embedded,timescale",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "storage(name): run on targets of this storage only")
    config.addinivalue_line("markers", "every_target: run on every server and encoding here")
    findings = look_around()
    targets = targets_on(server for finding in findings for server in finding.servers)
    usual = one_of_each_storage(targets)
    if wanted := tuple(filter(None, config.getoption("--databases").split(","))):
        names = ", ".join(target.name for target in targets)
        targets = usual = [target for target in targets if target.name.startswith(wanted)]
        if not targets:
            raise pytest.UsageError(f"--databases: there are {names}")
    config.stash[FINDINGS] = findings
    config.stash[TARGETS] = targets
    config.stash[USUAL] = usual
    # A killed run, too, stops its servers and removes their data.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell has what it starts in the background ignore Ctrl-C, and so what that starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    # Eleven thousand tests are looked through by each full collection of garbage, and stay.
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    # Not a fixture's end, which an interrupt during collection or a teardown can skip.
    for finding in config.stash.get(FINDINGS, []):
        for server in finding.servers:
            server.stop()


def pytest_report_header(config: pytest.Config) -> list[str]:
    usual, targets = config.stash[USUAL], config.stash[TARGETS]
    header = [f"database, {finding}" for finding in config.stash[FINDINGS]]
    header.append(f"testing on: {', '.join(map(str, usual))}")
    if others := [target.name for target in targets if target not in usual]:
        header.append(f"and what differs there, on: {', '.join(others)}")
    return header


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        is_every = metafunc.definition.get_closest_marker("every_target")
        targets = metafunc.config.stash[TARGETS if is_every else USUAL]
        storages = [marker.args[0] for marker in metafunc.definition.iter_markers("storage")]
        targets = [target for target in targets if {target.storage} >= set(storages)]
        there: list[Target | ParameterSet] = [*targets] or [_missing(*storages)]
        metafunc.parametrize("target", there, ids=str, indirect=True, scope="session")
    if "finding" in metafunc.fixturenames:
        findings = metafunc.config.stash[FINDINGS]
        metafunc.parametrize("finding", findings, ids=lambda finding: finding.kind)


def _missing(*storages: str) -> ParameterSet:
    """What stands for a database that is not here, so that its absence is seen and named."""
    reason = f"no database to test on here has the storage {' and '.join(storages)}"
    return pytest.param(None, marks=pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """Each way in which the ledger can be installed here, one after the other."""
    found: Target = request.param
    return found


@pytest.fixture(scope="session")
def migrate() -> Migrate:
    """What makes a template of an empty database."""
    from ledger.ddl.migrate import upgrade  # noqa: PLC0415 - tests without a database need none

    return upgrade


@pytest.fixture(scope="session")
def databases(migrate: Migrate) -> Iterator[Databases]:
    """Makes databases on any server, and drops them at the end of the run."""
    databases = Databases(migrate=migrate)
    yield databases
    databases.drop_all()


@pytest.fixture
def database_url(databases: Databases, target: Target) -> Iterator[str]:
    """A migrated, empty database of the test's own."""
    name = databases.create(target.server, template=databases.template(target))
    if target.storage is Storage.TIMESCALE:
        # A scheduler that ends wakes the launcher, and that one starts others, in any database.
        target.server.execute("SELECT _timescaledb_functions.stop_background_workers()", name)
    yield databases.url(target.server, name)
    databases.drop(name)


@pytest.fixture
def empty_database_url(databases: Databases, target: Target) -> Iterator[str]:
    """A database with nothing in it, of the test's own."""
    name = databases.create(target.server)
    yield databases.url(target.server, name)
    databases.drop(name)
