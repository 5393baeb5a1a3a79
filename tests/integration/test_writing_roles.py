"""Writing as a role that may insert and see nothing, and through PgBouncer."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from ledger.embedded.account import Account
from ledger.errors import ConflictingRecord, InvalidRecord, PermissionMissing
from ledger.records.report import WriteReport
from ledger.repositories.telemetry import Telemetry
from ledger.write.statements import INSERT_ONE, MERGE_STAGE
from tests.builders import fields, transaction
from tests.roles import Roles, roles_of
from tests.servers import libpq, temporary_folder
from tests.writers import KINDS, Kind, count, sql, stop_jobs, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Executable


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def roles(database_url: str) -> Iterator[Roles]:
    with roles_of(database_url) as roles:
        yield roles
        stop_jobs(database_url)


def exercise(url: str, kind: Kind) -> None:
    """All that writing does: COPY, stage, compare, make days, reject."""
    then = datetime.now(UTC) - timedelta(days=9)
    sent = [
        transaction(timestamp=then + timedelta(hours=number), request_id=f"r-{number}")
        for number in range(60)
    ]
    other = sent[0].model_copy(update={"latency_ms": 1})
    old = fields(timestamp=datetime.now(UTC) - timedelta(days=900))
    with writing(url, kind) as writer:
        assert writer.insert_transaction(sent[0]) == writer.insert_transaction(sent[0])
        with pytest.raises(ConflictingRecord):
            writer.insert_transaction(other)
        with pytest.raises(InvalidRecord):
            writer.insert_transaction(old)
        assert writer.insert_transactions(sent[1:30], batch_size=7) == WriteReport(inserted=29)
        report = writer.insert_transactions([*sent, other, old], batch_size=7)
        assert (report.inserted, report.duplicates, report.rejected_count) == (30, 30, 2)


@pytest.mark.parametrize("granted", ["writer", "service"])
def test_a_granted_role_writes_all_ways(
    roles: Roles, database_url: str, kind: Kind, granted: str
) -> None:
    exercise(roles.granted(granted).url, kind)
    assert count(database_url) == 60


@pytest.mark.storage("timescale")
def test_a_writer_sends_again_what_is_in_the_columnstore(
    roles: Roles, database_url: str, kind: Kind
) -> None:
    then = datetime.now(UTC) - timedelta(days=10)
    sent = [transaction(timestamp=then, request_id=f"r-{number}") for number in range(30)]
    with writing(roles.granted("writer").url, kind) as writer:
        writer.insert_transactions(sent[:20])
        stop_jobs(database_url)
        sql(
            database_url,
            "SELECT compress_chunk(chunk, if_not_compressed => true)"
            " FROM show_chunks('ledger.llm_requests') AS chunk",
        )
        other = sent[0].model_copy(update={"latency_ms": 1})
        report = writer.insert_transactions([*sent, other])
        assert (report.inserted, report.duplicates, report.rejected_count) == (10, 20, 1)
        with pytest.raises(ConflictingRecord):
            writer.insert_transaction(other)
    assert count(database_url) == 30


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_writer_may_be_bound_on_any_driver(roles: Roles, database_url: str, driver: str) -> None:
    sent = [transaction() for _ in range(10)]
    url = make_url(roles.granted("writer").url).set(drivername=f"postgresql+{driver}")
    engine = create_engine(url)
    with Session(engine) as session:
        telemetry = Telemetry(session)
        telemetry.insert_transactions(sent[:5])
        assert telemetry.insert_transactions(sent) == WriteReport(inserted=5, duplicates=5)
        session.commit()
    engine.dispose()
    assert count(database_url) == 10


def test_a_writer_sees_nothing_of_what_it_wrote(roles: Roles, kind: Kind) -> None:
    role = roles.granted("writer")
    with writing(role.url, kind) as writer:
        writer.insert_transactions([fields()])
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        role.sql("SELECT * FROM ledger.llm_requests")


def test_a_role_without_a_grant_is_told_what_is_missing(roles: Roles, kind: Kind) -> None:
    with writing(roles.create().url, kind) as writer:
        with pytest.raises(PermissionMissing):
            writer.insert_transaction(fields())
        with pytest.raises(PermissionMissing):
            writer.insert_transactions([fields()])


@pytest.mark.parametrize("statement", [INSERT_ONE, MERGE_STAGE])
def test_an_insert_asks_for_no_privilege_but_its_own(statement: Executable) -> None:
    written = str(statement.compile(dialect=postgresql.dialect()))  # type: ignore[attr-defined,no-untyped-call]
    assert written.endswith("ON CONFLICT DO NOTHING")
    assert "RETURNING" not in written


# --- PgBouncer ---


@contextmanager
def pooled(url: URL) -> Iterator[str]:
    """The same database through PgBouncer, whose server connections change with transactions."""
    leave: list[Callable[[], object]] = []
    folder = temporary_folder(leave)
    account = Account.for_folder(Path(str(url.query["host"])))
    arguments: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(libpq(url))
    target = " ".join(
        "{}='{}'".format(name, str(value).replace("'", "''")) for name, value in arguments.items()
    )
    (folder / "pgbouncer.ini").write_text(
        f"""[databases]
pooled = {target} pool_size=2
[pgbouncer]
pool_mode = transaction
auth_type = any
listen_addr =
listen_port = 6543
unix_socket_dir = {folder}
server_round_robin = 1
logfile = {folder}/log
pidfile = {folder}/pid
"""
    )
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, account.uid, account.gid)
    arguments = {"host": str(folder), "port": 6543, "dbname": "pooled", "user": url.username}
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    assert program is not None
    bouncer = subprocess.Popen(
        [program, "--quiet", str(folder / "pgbouncer.ini")],
        user=account.uid if account.name else None,
        extra_groups=[] if account.name else None,
    )
    try:
        while not (folder / ".s.PGSQL.6543").exists():
            assert bouncer.poll() is None
        through = url.set(
            database="pooled",
            query={"host": str(folder), "port": "6543", "pgbouncer": "true"},
            password=None,
        )
        yield through.render_as_string(hide_password=False)
    finally:
        bouncer.terminate()
        bouncer.wait(timeout=30)
        for undo in leave:
            undo()


@pytest.mark.skipif(
    shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin") is None,
    reason="no PgBouncer on this machine",
)
def test_all_of_it_works_behind_pgbouncer_in_transaction_mode(
    database_url: str, kind: Kind
) -> None:
    url = make_url(database_url)
    if "host" not in url.query:
        pytest.skip("the server is not on this machine")
    with pooled(url) as through:
        exercise(through, kind)
    assert count(database_url) == 60
