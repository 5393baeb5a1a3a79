"""An export of runs is every one that was asked for, column by column, in a file that is whole or
not there."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from ledger import AsyncLedger, Ledger, Window
from ledger.errors import (
    DatabaseUnavailable,
    ExportFailed,
    InvalidArgument,
    PermissionMissing,
    SchemaNotReady,
)
from ledger.queries.csv_cells import FORMULA_STARTS
from tests.audits import ALICE, BOB, OTHER_PROJECT, PROJECT, audited, execution
from tests.databases import Databases, Target
from tests.ledgers import NOW, ledger_at
from tests.roles import roles_of
from tests.writers import Kind, sql, superuser

NASTY: Final = (
    *(f"{start}1+1" for start in FORMULA_STARTS),
    "=cmd|' /C calc'!A0",
    " =1+1",
    "'=1+1",
    '"=1+1"',
    'say "hello", he said',
    "two\nlines",
    "two\r\nlines\r",
    " spaces around ",
    "\\.",
    "\\",
    "NULL",
    ",",
    '"',
    "'",
    "100 %s %(start)s $1 :start",
    "größer 漢字 🎉 \u200d",
)
ORDINARY: Final = 3_000
DAY: Final = timedelta(days=1)
A_MILLISECOND: Final = timedelta(milliseconds=1)
EVERYTHING: Final = Window(start=NOW - 99 * DAY, end=NOW + DAY)
ALL_TIME: Final = Window(
    start=datetime.min.replace(tzinfo=UTC), end=datetime.max.replace(tzinfo=UTC)
)
OLD: Final = b"the file of yesterday\n"
NOWHERE: Final = "postgresql://nobody@127.0.0.1:9/none"

TIMES: Final = ("created_at", "recorded_at")
TEXTS: Final = ("run_id", "parent_run_id", "agent_id", "intent", "error_message")
JSON: Final = ("input", "output", "cost_json", "execution_trace_json")


def nasty_run(number: int, text: str) -> dict[str, Any]:
    """One that has this text wherever there can be some."""
    return execution(
        text,
        project_id=OTHER_PROJECT if number % 5 == 0 else PROJECT,
        agent_id=text,
        intent=text,
        parent_run_id=f"{text} before" if number % 3 else None,
        error_message=text if number % 2 else None,
        status="failed" if number % 4 == 1 else "completed",
        input={text: [text, Decimal("-1.50"), None, True]},
        output={"text": text} if number % 3 else None,
        cost=f"{number}.000000000001",
        # Two of each millisecond, whose ids have no order of their own.
        created_at=NOW - DAY - number // 2 * A_MILLISECOND,
    )


def ordinary_run(number: int) -> dict[str, Any]:
    return execution(
        f"run-{number}",
        user_id=BOB if number % 4 == 0 else ALICE,
        input={"prompt": "x" * 300},
        created_at=NOW - 2 * DAY - number * 77 % ORDINARY * A_MILLISECOND,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A database with runs of all kinds in it."""

    url: str
    rows: list[dict[str, Any]]
    """What is in it, JSON as its text."""

    def expected(self, window: Window = EVERYTHING, **values: object) -> list[dict[str, str]]:
        """The rows with these values as a careful person would write them down."""
        values = {"project_id": PROJECT, **values}
        found = [
            row
            for row in self.rows
            if window.start <= row["created_at"] < window.end and values.items() <= row.items()
        ]
        found.sort(key=lambda row: (row["created_at"], row["id"].bytes))
        return [{name: cell(name, value) for name, value in row.items()} for row in found]


def cell(name: str, value: object) -> str:
    match value:
        case None:
            return ""
        case Decimal():
            return format(value, "f")
        case datetime():
            written = value.astimezone(UTC).replace(tzinfo=None).isoformat()
            return (written.rstrip("0") if "." in written else written) + "Z"
        case bytes():
            return value.hex()
        case str() if name in TEXTS and value.startswith(tuple(FORMULA_STARTS)):
            return f"'{value}"
        case _:
            return str(value)


@pytest.fixture(scope="module")
def stored(databases: Databases, target: Target) -> Iterator[Stored]:
    """Shared by tests that only read."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    runs = [nasty_run(number, text) for number, text in enumerate(NASTY)]
    with audited(url, *runs, *map(ordinary_run, range(ORDINARY))) as ledger:
        ledger.audit.erase_payload(NASTY[1], "=1+1")
    with superuser(url) as connection, connection.cursor(row_factory=dict_row) as cursor:
        columns = cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attnum > 0"
            " AND attrelid = 'ledger.execution_ledger'::regclass ORDER BY attnum"
        ).fetchall()
        read = ", ".join(
            f"{each['attname']}::text" if each["attname"] in JSON else each["attname"]
            for each in columns
        )
        rows = cursor.execute(f"SELECT {read} FROM ledger.execution_ledger".encode()).fetchall()
    assert len(rows) == len(NASTY) + ORDINARY
    yield Stored(url=url, rows=rows)
    databases.drop(name)


def read(exported: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported.decode(), newline=""), strict=True))


def export(
    url: str, kind: Kind = "called", window: Window = EVERYTHING, project: object = PROJECT
) -> bytes:
    """What is exported, from an engine of the ledger's own."""
    file = io.BytesIO()
    with ledger_at(url, kind) as ledger:
        count = ledger.audit.export_executions_csv(project, window, to=file)  # type: ignore[arg-type]
    assert count == len(read(file.getvalue()))
    return file.getvalue()


# --- which rows, and how they are written ---


def test_every_column_of_every_run_is_there_as_it_is_stored_oldest_first(
    stored: Stored, kind: Kind
) -> None:
    rows = read(export(stored.url, kind))
    assert rows == stored.expected()
    assert list(rows[0]) == list(stored.rows[0])
    for name in ("hash", "previous_hash", "salt", "payload_digests"):
        assert {bytes.fromhex(row[name]) for row in rows} == {
            row[name] or b"" for row in stored.rows if row["project_id"] == PROJECT
        }


def test_each_project_has_its_own_and_an_id_may_be_text(stored: Stored, kind: Kind) -> None:
    rows = read(export(stored.url, kind, project=str(OTHER_PROJECT)))
    assert rows == stored.expected(project_id=OTHER_PROJECT)
    assert len(rows) == (len(NASTY) + 4) // 5


def test_a_window_has_its_start_and_not_its_end(stored: Stored) -> None:
    first = NOW - DAY - 10 * A_MILLISECOND
    for shift in (0, 1):
        window = Window(
            start=first + shift * A_MILLISECOND, end=first + (5 + shift) * A_MILLISECOND
        )
        rows = read(export(stored.url, window=window))
        assert rows == stored.expected(window)
        assert {row["created_at"] for row in rows} == {
            cell("", first + number * A_MILLISECOND) for number in range(shift, 5 + shift)
        }
    assert read(export(stored.url, window=ALL_TIME)) == stored.expected()


def test_what_nobody_has_is_a_header_and_no_row(stored: Stored, kind: Kind) -> None:
    for asked in ({"project": ALICE}, {"window": Window(start=NOW, end=NOW)}):
        written = export(stored.url, kind, **asked)
        assert written.decode() == ",".join(stored.rows[0]) + "\n"


def test_text_that_is_a_formula_is_not_one_any_more(stored: Stored) -> None:
    rows = read(export(stored.url)) + read(export(stored.url, project=OTHER_PROJECT))
    cells = {row[name] for row in rows for name in row}
    assert not any(each.startswith(tuple(FORMULA_STARTS)) for each in cells)
    assert {each for each in cells if each[:1] == "'"} >= {
        *(f"'{start}1+1" for start in FORMULA_STARTS),
        "'=1+1",
        "'",
    }
    assert {row["intent"] for row in rows} >= {
        "two\r\nlines\r",
        "größer 漢字 🎉 \u200d",
        "[erased]",
    }


@pytest.mark.parametrize("date_style", ["SQL, DMY", "German", "Postgres, MDY"])
def test_a_session_of_other_habits_exports_the_same_bytes(stored: Stored, date_style: str) -> None:
    habits = {
        "datestyle": date_style,
        "timezone": "Asia/Kolkata",
        "client_encoding": "latin1",
        "bytea_output": "escape",
        "standard_conforming_strings": "off",
    }
    options = " ".join(
        f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in habits.items()
    )
    url = make_url(stored.url).update_query_dict({"options": options})
    assert export(url.render_as_string(hide_password=False)) == export(stored.url)


WRONG: Final[tuple[tuple[Any, Any, str], ...]] = (
    ("mine", EVERYTHING, "project_id 'mine'"),
    (None, EVERYTHING, "project_id None"),
    (PROJECT, "7D", "'7D' is not a Window"),
    (PROJECT, None, "None is not a Window"),
)


@pytest.mark.parametrize("project, window, wrong", WRONG)
def test_a_wrong_argument_is_named_before_anything_is_opened(
    tmp_path: Path, kind: Kind, project: Any, window: Any, wrong: str
) -> None:
    with ledger_at(NOWHERE, kind) as ledger, pytest.raises(InvalidArgument, match=wrong):
        ledger.audit.export_executions_csv(project, window, to=tmp_path / "runs.csv")
    assert list(tmp_path.iterdir()) == []


# --- a path ---


def test_a_path_has_the_whole_export_and_nothing_is_beside_it(
    stored: Stored, kind: Kind, tmp_path: Path
) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(OLD)
    told: list[int] = []
    with ledger_at(stored.url, kind) as ledger:
        for to in (path, str(path)):
            told.clear()
            ledger.audit.export_executions_csv(PROJECT, EVERYTHING, to=to, on_progress=told.append)
    assert path.read_bytes() == export(stored.url)
    assert list(tmp_path.iterdir()) == [path]
    assert (told == sorted(told), len(told) > 5, told[-1]) == (True, True, path.stat().st_size)


def test_a_path_that_cannot_be_written_is_an_error_before_the_database_is_asked(
    kind: Kind, tmp_path: Path
) -> None:
    with ledger_at(NOWHERE, kind) as ledger:
        with pytest.raises(ExportFailed, match=str(tmp_path / "no" / "runs.csv")):
            ledger.audit.export_executions_csv(PROJECT, EVERYTHING, to=tmp_path / "no" / "runs.csv")
        with pytest.raises(DatabaseUnavailable):
            ledger.audit.export_executions_csv(PROJECT, EVERYTHING, to=tmp_path / "runs.csv")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def left_as_it_was(folder: Path) -> Iterator[Path]:
    """A path at which a file is, and that file alone, before and after."""
    path = folder / "runs.csv"
    path.write_bytes(OLD)
    yield path
    assert [(each, each.read_bytes()) for each in folder.iterdir()] == [(path, OLD)]


def stopping(error: type[BaseException]) -> Callable[[int], object]:
    """A progress that ends the export the first time it is told."""

    def stop(_: int) -> None:
        raise error

    return stop


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_export_leaves_the_older_file_and_a_usable_ledger(
    stored: Stored, kind: Kind, tmp_path: Path, error: type[BaseException]
) -> None:
    with ledger_at(stored.url, kind) as ledger:
        for _ in range(7):  # more than the pool would lend at once, were one lost each time
            with left_as_it_was(tmp_path) as path, pytest.raises(error):
                ledger.audit.export_executions_csv(
                    PROJECT, EVERYTHING, to=path, on_progress=stopping(error)
                )
        assert ledger.audit.export_executions_csv(PROJECT, EVERYTHING, to=io.BytesIO()) > ORDINARY


def test_ctrl_c_leaves_the_older_file(stored: Stored, tmp_path: Path) -> None:
    with (
        Ledger.connect(stored.url) as ledger,
        left_as_it_was(tmp_path) as path,
        pytest.raises(KeyboardInterrupt),
    ):
        ledger.audit.export_executions_csv(
            PROJECT, EVERYTHING, to=path, on_progress=lambda _: os.kill(os.getpid(), signal.SIGINT)
        )


async def test_a_cancelled_task_leaves_the_older_file_and_a_usable_ledger(
    stored: Stored, tmp_path: Path
) -> None:
    async with AsyncLedger.connect(stored.url) as ledger:

        def cancel(_: int) -> None:
            task.cancel()

        with left_as_it_was(tmp_path) as path:
            task = asyncio.create_task(
                ledger.audit.export_executions_csv(PROJECT, EVERYTHING, to=path, on_progress=cancel)
            )
            with pytest.raises(asyncio.CancelledError):
                await task
        count = await ledger.audit.export_executions_csv(PROJECT, EVERYTHING, to=io.BytesIO())
        assert count == len(stored.expected())


def terminate(url: str) -> None:
    sql(
        url,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'",
    )


def test_a_disconnect_leaves_the_older_file_and_the_next_export_works(
    stored: Stored, kind: Kind, tmp_path: Path
) -> None:
    with ledger_at(stored.url, kind) as ledger:
        with left_as_it_was(tmp_path) as path, pytest.raises(DatabaseUnavailable):
            ledger.audit.export_executions_csv(
                PROJECT, ALL_TIME, to=path, on_progress=lambda _: terminate(stored.url)
            )
        assert ledger.audit.export_executions_csv(PROJECT, EVERYTHING, to=path) > ORDINARY


# --- connections and roles ---

DRIVERS: Final = ("psycopg", "psycopg2", "asyncpg", "psycopg_async")


@contextmanager
def bound(url: str, driver: str) -> Iterator[tuple[Callable[[str], Any], Callable[..., int]]]:
    """What executes a statement, and what exports, in a transaction of a host's."""
    its_url = make_url(url).set(drivername=f"postgresql+{driver}")
    if driver in {"psycopg", "psycopg2"}:
        with create_engine(its_url, poolclass=NullPool).connect() as connection:
            audit = Ledger.bound(connection).audit
            yield lambda each: connection.execute(text(each)), audit.export_executions_csv
        return
    if driver == "asyncpg":
        its_url = its_url.set(port=None, query={"host": its_url.query["host"]})
    with asyncio.Runner() as runner:
        host: Any = create_async_engine(its_url, poolclass=NullPool).connect()
        runner.run(host.__aenter__())
        exporting = AsyncLedger.bound(host).audit.export_executions_csv
        yield (
            lambda each: runner.run(host.execute(text(each))),
            lambda *args, **kwargs: runner.run(exporting(*args, **kwargs)),
        )
        runner.run(host.close())


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_bound_export_is_the_same_on_any_driver_and_in_any_session(
    stored: Stored, driver: str
) -> None:
    as_ever = export(stored.url)
    with bound(stored.url, driver) as (execute, exported):
        for setting in ("datestyle = 'ISO'", "datestyle = 'SQL, DMY'", "bytea_output = 'escape'"):
            execute(f"SET LOCAL {setting}")
            execute("SET LOCAL timezone = 'Asia/Kolkata'")
            for window in (EVERYTHING, ALL_TIME):
                file = io.BytesIO()
                exported(PROJECT, window, to=file)
                assert file.getvalue() == as_ever


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_failed_export_leaves_the_callers_transaction_usable(
    stored: Stored, driver: str, tmp_path: Path
) -> None:
    with bound(stored.url, driver) as (execute, exported):
        execute("CREATE TEMPORARY TABLE of_the_host (n int)")
        for error in (LookupError, KeyboardInterrupt):
            with left_as_it_was(tmp_path) as path, pytest.raises(error):
                exported(PROJECT, EVERYTHING, to=path, on_progress=stopping(error))
        assert execute("SELECT count(*) FROM of_the_host").scalar() == 0
        assert exported(PROJECT, EVERYTHING, to=io.BytesIO()) == len(stored.expected())


def test_exports_go_to_the_replica(stored: Stored) -> None:
    file = io.BytesIO()
    with Ledger.connect(NOWHERE, stored.url) as ledger:
        ledger.audit.export_executions_csv(PROJECT, EVERYTHING, to=file)
    assert file.getvalue() == export(stored.url)


@pytest.mark.parametrize(
    "granted, of", [("auditor", {}), ("service", {}), ("reader", {"user_id": BOB})]
)
def test_a_role_exports_what_its_scopes_say(
    stored: Stored, kind: Kind, granted: str, of: dict[str, object]
) -> None:
    with roles_of(stored.url) as roles:
        role = roles.granted(granted, [BOB] if granted == "reader" else [])
        assert read(export(role.url, kind)) == stored.expected(**of)  # type: ignore[arg-type]


def test_an_auditor_of_a_project_exports_that_and_nothing_of_another(
    stored: Stored, kind: Kind
) -> None:
    with roles_of(stored.url) as roles:
        role = roles.granted("auditor", projects=[OTHER_PROJECT])
        assert read(export(role.url, kind)) == []
        rows = read(export(role.url, kind, project=OTHER_PROJECT))
        assert rows == stored.expected(project_id=OTHER_PROJECT)


def test_a_writer_may_not_export(stored: Stored, kind: Kind, tmp_path: Path) -> None:
    with (
        roles_of(stored.url) as roles,
        ledger_at(roles.granted("writer").url, kind) as ledger,
        left_as_it_was(tmp_path) as path,
        pytest.raises(PermissionMissing),
    ):
        ledger.audit.export_executions_csv(PROJECT, EVERYTHING, to=path)


def test_a_database_without_the_schema_says_what_to_run(
    empty_database_url: str, kind: Kind, tmp_path: Path
) -> None:
    with (
        ledger_at(empty_database_url, kind) as ledger,
        left_as_it_was(tmp_path) as path,
        pytest.raises(SchemaNotReady, match="ledger db upgrade"),
    ):
        ledger.audit.export_executions_csv(PROJECT, EVERYTHING, to=path)
