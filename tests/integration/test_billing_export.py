"""An export is every row that was asked for, to the last digit, in a file that is whole or not
there; on any connection."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from ledger import AsyncLedger, Ledger, Window
from ledger.engine import PLAN_TRANSACTION, driver_of, engine
from ledger.errors import (
    DatabaseUnavailable,
    ExportFailed,
    InvalidArgument,
    PermissionMissing,
    SchemaNotReady,
    StorageMismatch,
)
from ledger.queries.usage_export import PARTS, usage_export
from ledger.settings import Storage
from tests.bouncer import bouncing, program
from tests.databases import Databases, Target
from tests.ledgers import NOW, ledger_at
from tests.millions import STATUS, peak_kib
from tests.plans import Plan
from tests.roles import roles_of
from tests.servers import libpq
from tests.writers import KINDS, Kind, sql, superuser

FORMULA_STARTS: Final = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)
NASTY: Final = (
    *(f"{start}1+1" for start in FORMULA_STARTS),
    "=cmd|' /C calc'!A0",
    " =1+1",
    "'=1+1",
    '"=1+1"',
    ";=1+1",
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
    "x" * 255,
)
CALLS: Final = 20_000
CORRECTED: Final = 2_000
DAY: Final = timedelta(days=1)
EVERYTHING: Final = Window(start=NOW - 99 * DAY, end=NOW + DAY)
ALL_TIME: Final = Window(
    start=datetime.min.replace(tzinfo=UTC), end=datetime.max.replace(tzinfo=UTC)
)
OLD: Final = b"the file of yesterday\n"

MANY_CALLS: Final = """
INSERT INTO ledger.token_usage_ledger (user_id, id, request_id, kind, provider_id, model_id,
  status, tier, service_tier, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
  reasoning_tokens, usage_source, latency_ms, pricing_status, vendor_cost, margin_multiplier,
  credit_value_usd, credits_deducted, charge_usd, gross_margin_usd, created_at, attributes)
SELECT user_id, {id}, 'call-' || n, 'usage', provider_id, 'gpt-' || n % 3, status, 'pro',
  'standard', n, 100, 0, 0, 0, 'provider', n % 900, 'stated', cost, 1.5, 0.01, credits,
  credits * 0.01, credits * 0.01 - cost, at, '{{"feature": "search"}}'
FROM (SELECT *, CASE WHEN status = 'success' THEN ceil(cost * 150) ELSE 0 END::bigint AS credits
  FROM (SELECT n, n * 0.000000000001 + 0.004 AS cost, u.id AS user_id, p.id AS provider_id,
      CASE WHEN n % 50 = 0 THEN 'failed' WHEN n % 77 = 0 THEN 'cancelled' ELSE 'success' END
      AS status,
      date_trunc('milliseconds', now() - interval '1 hour' - n * interval '2 seconds') AS at
    FROM generate_series({last}, {first}, -1) AS n,
      (SELECT id FROM ledger.users LIMIT 1) AS u, (SELECT id FROM ledger.providers LIMIT 1) AS p)
    AS costs) AS calls"""
ID: Final = """(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
   || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid"""
CORRECTIONS: Final = f"""
INSERT INTO ledger.token_usage_ledger
SELECT user_id, {ID}, request_id || '#' || n, CASE WHEN n % 2 = 0 THEN 'refund' ELSE 'adjustment'
  END, id, created_at, provider_id, model_id, operation, project_id, status, tier, service_tier,
  0, 0, 0, 0, 0, usage_source, NULL, 'stated', NULL, NULL, n % 2 * -vendor_cost,
  margin_multiplier, credit_value_usd, -credits_deducted, -charge_usd,
  n % 2 * vendor_cost - charge_usd, at, recorded_at, attributes
FROM (SELECT row_number() OVER (ORDER BY created_at) AS n, created_at + interval '1 day' AS at, *
  FROM ledger.token_usage_ledger WHERE pricing_status = 'stated'
  ORDER BY created_at LIMIT {CORRECTED}) AS made"""


def record_calls(url: str, count: int) -> None:
    """Many calls, by plain SQL."""
    for first in range(1, count + 1, 50_000):
        last = min(count, first + 49_999)
        sql(url, MANY_CALLS.format(id=ID, first=first, last=last))
    sql(url, "ANALYZE ledger.token_usage_ledger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A database with calls of all kinds in it."""

    url: str
    target: Target
    users: list[UUID]
    project: UUID
    rows: list[dict[str, Any]] = field(repr=False)
    """What is in it, each provider by its name too."""


@pytest.fixture(scope="module")
def stored(databases: Databases, target: Target) -> Iterator[Stored]:
    """Shared by tests that only read."""
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    with Ledger.connect(url) as ledger:
        users, project = record_nasty_calls(ledger)
    record_calls(url, CALLS)
    sql(url, CORRECTIONS)
    sql(url, "VACUUM ANALYZE ledger.token_usage_ledger")
    rows = every_row(url)
    assert len(rows) == len(NASTY) + CALLS + CORRECTED
    yield Stored(url=url, target=target, users=users, project=project, rows=rows)
    databases.drop(name)


def record_nasty_calls(ledger: Ledger) -> tuple[list[UUID], UUID]:
    """One of each text; the users, and the project, of some of them."""
    tenancy = ledger.tenancy
    tenancy.set_tier("pro", "1.5", effective_from=NOW - 100 * DAY)
    users = [tenancy.upsert_user(tier="pro", external_id=name) for name in ("a", "b")]
    project = tenancy.upsert_project("search", external_id="search")
    for name in NASTY:
        tenancy.upsert_provider(name)
    calls = [
        {
            "user_id": users[number % 2],
            "request_id": nasty,
            # Two of each millisecond, whose ids have no order of their own.
            "created_at": NOW - DAY - timedelta(milliseconds=number // 2),
            "provider": nasty,
            "model": nasty,
            "operation": nasty if number % 3 else None,
            "service_tier": nasty,
            "tier": nasty if number % 4 else None,
            "status": ("success", "failed", "cancelled")[number % 3],
            "project_id": project if number % 5 else None,
            "vendor_cost": f"{number}.000000000001" if number % 2 else None,
            "latency_ms": number,
            "attributes": {nasty: [nasty, number, -1.5, None, True]},
        }
        for number, nasty in enumerate(NASTY)
    ]
    assert ledger.billing.record_usages(calls).inserted == len(NASTY)
    return users, project


def stopping(error: type[BaseException]) -> Callable[[int], object]:
    """A progress that ends the export the first time it is told."""

    def stop(_: int) -> None:
        raise error

    return stop


# --- an oracle ---


def every_row(url: str) -> list[dict[str, Any]]:
    with superuser(url) as connection, connection.cursor(row_factory=dict_row) as cursor:
        providers = cursor.execute("SELECT id, name FROM ledger.providers").fetchall()
        names = {row["id"]: row["name"] for row in providers}
        rows = cursor.execute("SELECT * FROM ledger.token_usage_ledger").fetchall()
    return [{**row, "provider": names[row["provider_id"]]} for row in rows]


def expected(stored: Stored, window: Window = EVERYTHING, **values: object) -> list[dict[str, Any]]:
    """The rows with these values as a careful person would write them down."""
    found = [
        row
        for row in stored.rows
        if window.start <= row["created_at"] < window.end and values.items() <= row.items()
    ]
    found.sort(key=lambda row: (row["created_at"], row["id"]))
    return [{name: cell(value) for name, value in row.items()} for row in found]


def cell(value: object) -> object:
    match value:
        case None:
            return ""
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.astimezone(UTC)
        case str() if value.startswith(FORMULA_STARTS):
            return f"'{value}"
        case dict():
            return value
        case _:
            return str(value)


def read(exported: bytes) -> list[dict[str, Any]]:
    """The rows of a file, with times and JSON as what they say."""
    rows = list(csv.DictReader(io.StringIO(exported.decode(), newline=""), strict=True))
    for row in rows:
        for name in ("created_at", "recorded_at", "adjusts_created_at"):
            if row[name]:
                assert row[name][10] == "T"
                assert row[name][-1] == "Z"
                row[name] = datetime.fromisoformat(row[name])
        row["attributes"] = json.loads(row["attributes"])
    return rows


def export(url: str, kind: Kind = "called", **asked: Any) -> bytes:
    """What is exported, from an engine of the ledger's own."""
    with ledger_at(url, kind) as ledger:
        file = io.BytesIO()
        count = ledger.billing.export_usage_csv(asked.pop("window", EVERYTHING), to=file, **asked)
    assert count == len(list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))) - 1
    return file.getvalue()


# --- which rows, and how they are written ---


def test_every_row_is_there_as_it_is_stored_oldest_first(stored: Stored, kind: Kind) -> None:
    rows = read(export(stored.url, kind))
    assert rows == expected(stored)
    assert len(rows) == len(stored.rows)
    assert {row["kind"] for row in rows} == {"usage", "adjustment", "refund"}


def test_a_window_has_its_start_and_not_its_end(stored: Stored) -> None:
    first, last = sql(
        stored.url,
        "SELECT min(created_at), max(created_at) FROM ledger.token_usage_ledger"
        " WHERE model_id = 'gpt-1'",
    )[0]
    window = Window(start=first, end=last)
    rows = read(export(stored.url, window=window, model="gpt-1"))
    assert rows == expected(stored, window, model_id="gpt-1")
    assert (rows[0]["created_at"], rows[-1]["created_at"] < last) == (first, True)
    later = Window(start=first + timedelta(milliseconds=1), end=last + timedelta(milliseconds=1))
    assert read(export(stored.url, window=later, model="gpt-1"))[-1]["created_at"] == last


@pytest.mark.parametrize("name", ["provider", "model", "tier", "status"])
def test_a_filter_is_an_exact_match(stored: Stored, name: str) -> None:
    column = "model_id" if name == "model" else name
    with Ledger.connect(stored.url) as ledger:
        for value in {row[column] for row in stored.rows}:
            file = io.BytesIO()
            ledger.billing.export_usage_csv(EVERYTHING, to=file, **{name: value})
            assert read(file.getvalue()) == expected(stored, **{column: value})


def test_filters_may_be_combined_and_ids_be_text(stored: Stored, kind: Kind) -> None:
    user, project = stored.users[1], stored.project
    rows = read(export(stored.url, kind, user_id=user, project_id=str(project), status="failed"))
    assert rows == expected(stored, user_id=user, project_id=project, status="failed")
    assert rows


def test_what_nobody_has_is_a_header_and_no_row(stored: Stored, kind: Kind) -> None:
    for asked in ({"provider": "nobody"}, {"window": Window(start=NOW, end=NOW)}):
        written = export(stored.url, kind, **asked)
        assert written.count(b"\n") == 1
        assert written.startswith(b"user_id,id,request_id,kind,")
        assert b",provider_id,provider,model_id," in written


def test_text_that_is_a_formula_is_not_one_any_more_and_numbers_stay_numbers(
    stored: Stored,
) -> None:
    texts = ("request_id", "provider", "model_id", "operation", "tier", "service_tier")
    rows = read(export(stored.url))
    began = {row[name][:2] for row in rows for name in texts if row[name][:1] == "'"}
    assert began == {"'" + start for start in FORMULA_STARTS} | {"'=", "'"}
    assert not any(row[name].startswith(FORMULA_STARTS) for row in rows for name in texts)
    refunded = [row for row in rows if row["kind"] == "refund"]
    assert all(row["charge_usd"].startswith("-") for row in refunded if row["status"] == "success")
    assert sum(Decimal(row["vendor_cost"] or 0) for row in rows) == Decimal(
        sql(stored.url, "SELECT sum(vendor_cost) FROM ledger.token_usage_ledger")[0][0]
    )


@pytest.mark.parametrize("date_style", ["SQL, DMY", "German", "Postgres, MDY"])
def test_a_session_of_other_habits_exports_the_same_bytes(stored: Stored, date_style: str) -> None:
    habits = {
        "datestyle": date_style,
        "timezone": "Asia/Kolkata",
        "intervalstyle": "sql_standard",
        "client_encoding": "latin1",
        "bytea_output": "escape",
        "standard_conforming_strings": "off",
    }
    options = " ".join(
        f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in habits.items()
    )
    url = make_url(stored.url).update_query_dict({"options": options})
    other = url.render_as_string(hide_password=False)
    for asked in ({"model": "gpt-1"}, {"model": "\\"}, {"project_id": stored.project}):
        assert export(other, **asked) == export(stored.url, **asked)


# --- a path ---


def test_a_path_has_the_whole_export_and_nothing_is_beside_it(
    stored: Stored, kind: Kind, tmp_path: Path
) -> None:
    path = tmp_path / "usage.csv"
    path.write_bytes(OLD)
    told: list[int] = []
    with ledger_at(stored.url, kind) as ledger:
        for to in (path, str(path)):
            told.clear()
            count = ledger.billing.export_usage_csv(EVERYTHING, to=to, on_progress=told.append)
            assert count == len(stored.rows)
    assert path.read_bytes() == export(stored.url)
    assert list(tmp_path.iterdir()) == [path]
    assert told == sorted(told)
    assert (len(told) > 10, told[-1]) == (True, path.stat().st_size)


def test_a_path_that_cannot_be_written_is_an_error_before_the_database_is_asked(
    kind: Kind, tmp_path: Path
) -> None:
    with ledger_at("postgresql://nobody@127.0.0.1:9/none", kind) as ledger:
        with pytest.raises(ExportFailed, match=str(tmp_path / "no" / "usage.csv")):
            ledger.billing.export_usage_csv(EVERYTHING, to=tmp_path / "no" / "usage.csv")
        with pytest.raises(InvalidArgument, match="status"):
            ledger.billing.export_usage_csv(EVERYTHING, to=tmp_path, status="paid")  # type: ignore[arg-type]
        with pytest.raises(DatabaseUnavailable):
            ledger.billing.export_usage_csv(EVERYTHING, to=tmp_path / "usage.csv")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond that, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def left_as_it_was(folder: Path) -> Iterator[Path]:
    """A path at which a file is, and that file alone, before and after."""
    path = folder / "usage.csv"
    path.write_bytes(OLD)
    yield path
    assert [(each, each.read_bytes()) for each in folder.iterdir()] == [(path, OLD)]


def test_a_full_disk_leaves_the_older_file(stored: Stored, kind: Kind, tmp_path: Path) -> None:
    with ledger_at(stored.url, kind) as ledger:
        with (
            left_as_it_was(tmp_path) as path,
            at_most(1_000_000),
            pytest.raises(ExportFailed, match=f"{path} cannot be written: File too large"),
        ):
            ledger.billing.export_usage_csv(EVERYTHING, to=path)
        assert ledger.billing.export_usage_csv(EVERYTHING, to=path, tier="pro") > CALLS


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_export_leaves_the_older_file_and_a_usable_ledger(
    stored: Stored, kind: Kind, tmp_path: Path, error: type[BaseException]
) -> None:
    with ledger_at(stored.url, kind) as ledger:
        for _ in range(7):  # more than the pool would lend at once, were one lost each time
            with left_as_it_was(tmp_path) as path, pytest.raises(error):
                ledger.billing.export_usage_csv(EVERYTHING, to=path, on_progress=stopping(error))
        assert ledger.billing.export_usage_csv(EVERYTHING, to=io.BytesIO(), model="gpt-1")
    assert sql(stored.url, ACTIVE) == []


ACTIVE: Final = """SELECT pid FROM pg_stat_activity WHERE datname = current_database()
  AND state <> 'idle' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""


def test_ctrl_c_leaves_the_older_file(stored: Stored, tmp_path: Path) -> None:
    with (
        Ledger.connect(stored.url) as ledger,
        left_as_it_was(tmp_path) as path,
        pytest.raises(KeyboardInterrupt),
    ):
        ledger.billing.export_usage_csv(
            EVERYTHING, to=path, on_progress=lambda _: os.kill(os.getpid(), signal.SIGINT)
        )


async def test_a_cancelled_task_leaves_the_older_file_and_a_usable_ledger(
    stored: Stored, tmp_path: Path
) -> None:
    async with AsyncLedger.connect(stored.url) as ledger:
        for after in (1, 2, 3):
            told: list[int] = []
            tasks: list[asyncio.Task[int]] = []

            def cancel(
                written: int,
                told: list[int] = told,
                tasks: list[asyncio.Task[int]] = tasks,
                after: int = after,
            ) -> None:
                told.append(written)
                if len(told) == after:
                    tasks[0].cancel()

            with left_as_it_was(tmp_path) as path:
                exporting = ledger.billing.export_usage_csv(EVERYTHING, to=path, on_progress=cancel)
                tasks.append(asyncio.create_task(exporting))
                with pytest.raises(asyncio.CancelledError):
                    await tasks[0]
        assert await ledger.billing.export_usage_csv(EVERYTHING, to=io.BytesIO(), model="gpt-1")


def terminate(url: str) -> None:
    sql(
        url,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'",
    )


def test_a_disconnect_in_the_middle_leaves_the_older_file_and_the_next_export_works(
    stored: Stored, kind: Kind, tmp_path: Path
) -> None:
    told: list[int] = []

    def cut(written: int) -> None:
        if not told:
            terminate(stored.url)
        told.append(written)

    with ledger_at(stored.url, kind) as ledger:
        with left_as_it_was(tmp_path) as path, pytest.raises(DatabaseUnavailable):
            ledger.billing.export_usage_csv(EVERYTHING, to=path, on_progress=cut)
        assert ledger.billing.export_usage_csv(EVERYTHING, to=path, model="gpt-1")
    assert told


def test_dropped_connections_heal_on_the_next_export(stored: Stored, kind: Kind) -> None:
    with ledger_at(stored.url, kind) as ledger:
        for _ in range(3):
            assert ledger.billing.export_usage_csv(EVERYTHING, to=io.BytesIO(), model="gpt-1")
            terminate(stored.url)


def test_a_timeout_of_the_hosts_passes_as_sqlalchemys_error(
    stored: Stored, kind: Kind, tmp_path: Path
) -> None:
    url = make_url(stored.url).update_query_dict({"options": "-c statement_timeout=50"})
    with (
        superuser(stored.url) as connection,
        connection.transaction(),
        ledger_at(url.render_as_string(hide_password=False), kind) as ledger,
        left_as_it_was(tmp_path) as path,
    ):
        connection.execute("LOCK TABLE ledger.token_usage_ledger")
        with pytest.raises(OperationalError, match="statement timeout"):
            ledger.billing.export_usage_csv(EVERYTHING, to=path)


def test_an_open_file_keeps_what_had_come(stored: Stored, kind: Kind) -> None:
    file, stop = io.BytesIO(), stopping(LookupError)
    with ledger_at(stored.url, kind) as ledger, pytest.raises(LookupError):
        ledger.billing.export_usage_csv(EVERYTHING, to=file, on_progress=stop)
    whole = export(stored.url)
    assert len(whole) > file.tell() > 0
    assert whole.startswith(file.getvalue())


# --- a caller's connection ---

DRIVERS: Final = ("psycopg", "psycopg2", "asyncpg", "psycopg_async")
Exporting = Callable[..., Any]


class Bound:
    """A host's connection with a transaction of its own, and a ledger bound to it."""

    def __init__(self, execute: Callable[[str], Any], export: Exporting) -> None:
        self.execute, self.export = execute, export


@contextmanager
def bound(url: str, driver: str, **options: Any) -> Iterator[Bound]:
    its_url = make_url(url).set(drivername=f"postgresql+{driver}")
    if driver in {"psycopg", "psycopg2"}:
        own = create_engine(its_url, poolclass=NullPool, **options)
        with own.connect() as connection:
            yield Bound(
                lambda statement: connection.execute(text(statement)),
                Ledger.bound(connection).billing.export_usage_csv,
            )
        return
    if driver == "asyncpg":
        its_url = its_url.set(port=None, query={"host": its_url.query["host"]})
    with asyncio.Runner() as runner:
        awaited = create_async_engine(its_url, poolclass=NullPool, **options)
        host: AsyncConnection = runner.run(awaited.connect().__aenter__())
        billing = AsyncLedger.bound(host).billing
        yield Bound(
            lambda statement: runner.run(host.execute(text(statement))),
            lambda *args, **kwargs: runner.run(billing.export_usage_csv(*args, **kwargs)),
        )
        runner.run(host.close())


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_bound_export_is_the_same_on_any_driver_and_in_any_session(
    stored: Stored, driver: str
) -> None:
    asked: tuple[dict[str, Any], ...] = (
        {"window": ALL_TIME},
        {"user_id": stored.users[0], "project_id": stored.project, "tier": "\\"},
        *({"provider": text_, "status": "failed"} for text_ in NASTY[::3]),
    )
    as_ever = [export(stored.url, **each) for each in asked]
    with bound(stored.url, driver) as host:
        for setting in ("datestyle = 'ISO'", "datestyle = 'SQL, DMY'"):
            host.execute(f"SET LOCAL {setting}")
            host.execute("SET LOCAL timezone = 'Asia/Kolkata'")
            for each, written in zip(asked, as_ever, strict=True):
                file = io.BytesIO()
                host.export(**{"window": EVERYTHING, "to": file, **each})
                assert file.getvalue() == written


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_bound_export_sees_its_transaction_and_commits_nothing(
    stored: Stored, driver: str
) -> None:
    with bound(stored.url, driver) as host:
        host.execute("INSERT INTO ledger.users (external_id, tier) VALUES ('uncommitted', 'pro')")
        host.execute(MANY_CALLS.format(id=ID, first=CALLS + 1, last=CALLS + 7))
        assert host.export(EVERYTHING, to=io.BytesIO()) == len(stored.rows) + 7
    assert len(read(export(stored.url))) == len(stored.rows)
    assert sql(stored.url, "SELECT FROM ledger.users WHERE external_id = 'uncommitted'") == []


ROWS_READ: Final = """SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables
WHERE relname = 'token_usage_ledger'"""


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_failed_export_leaves_the_callers_transaction_usable(
    stored: Stored, driver: str, error: type[BaseException], tmp_path: Path
) -> None:
    with bound(stored.url, driver) as host:
        host.execute("CREATE TEMPORARY TABLE of_the_host (n int)")
        for _ in range(3):
            with left_as_it_was(tmp_path) as path, pytest.raises(error):
                host.export(EVERYTHING, to=path, on_progress=stopping(error))
        assert host.execute("SELECT count(*) FROM of_the_host").scalar() == 0
        # Nor did the server go on to the end of what nobody wanted any more.
        assert host.execute(ROWS_READ).scalar() < 3 * CALLS / 2
        assert host.export(EVERYTHING, to=io.BytesIO(), model="gpt-1") > 6_000


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_bound_export_that_is_cut_off_says_so(
    stored: Stored, driver: str, tmp_path: Path
) -> None:
    with (
        pytest.raises(DatabaseUnavailable),
        bound(stored.url, driver) as host,
        left_as_it_was(tmp_path) as path,
    ):
        host.export(EVERYTHING, to=path, on_progress=lambda _: terminate(stored.url))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_bound_connection_in_autocommit_exports_too(stored: Stored, driver: str) -> None:
    file = io.BytesIO()
    with bound(stored.url, driver, isolation_level="AUTOCOMMIT") as host:
        host.export(EVERYTHING, to=file)
    assert file.getvalue() == export(stored.url)


def test_a_driver_that_is_not_known_is_named(stored: Stored, tmp_path: Path) -> None:
    own = create_engine(make_url(stored.url).set(drivername="postgresql+psycopg"))
    own.dialect.driver = "pg8000"
    with own.connect() as connection, pytest.raises(InvalidArgument, match="driver pg8000"):
        Ledger.bound(connection).billing.export_usage_csv(EVERYTHING, to=tmp_path / "usage.csv")
    own.dispose()
    assert list(tmp_path.iterdir()) == []


# --- servers and roles ---


def test_exports_go_to_the_replica(stored: Stored) -> None:
    with Ledger.connect("postgresql://nobody@127.0.0.1:9/none", stored.url) as ledger:
        assert ledger.billing.export_usage_csv(EVERYTHING, to=io.BytesIO(), model="gpt-1") > 6_000


def test_behind_pgbouncer_another_client_finds_the_session_as_it_was(
    stored: Stored, kind: Kind
) -> None:
    pgbouncer = program()
    if pgbouncer is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    settings = "SELECT name, setting FROM pg_settings WHERE name <> 'application_name'"
    with bouncing(pgbouncer, stored.url) as url, sent_by_sqlalchemy() as sent:
        client = psycopg.connect(libpq(url), autocommit=True, prepare_threshold=None)
        before = client.execute(settings).fetchall()
        through = url.update_query_dict({"pgbouncer": "true"})
        rows = export(through.render_as_string(hide_password=False), kind)
        assert client.execute(settings).fetchall() == before
        assert client.execute("SELECT name FROM pg_prepared_statements").fetchall() == []
        client.close()
        assert sent[0] == PLAN_TRANSACTION.decode()
    assert rows == export(stored.url)


@contextmanager
def sent_by_sqlalchemy() -> Iterator[list[str]]:
    """The statements that go through SQLAlchemy, on any engine."""
    sent: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("granted", ["auditor", "service"])
def test_a_role_that_sees_all_exports_all(stored: Stored, kind: Kind, granted: str) -> None:
    with roles_of(stored.url) as roles:
        assert export(roles.granted(granted).url, kind) == export(stored.url)


@pytest.mark.parametrize("granted", ["reader", "writer", None])
def test_a_role_that_may_not_read_the_table_is_told_so(
    stored: Stored, kind: Kind, granted: str | None, tmp_path: Path
) -> None:
    with roles_of(stored.url) as roles:
        role = roles.create()
        if granted is not None:
            roles.grant(role.name, granted, stored.users if granted == "reader" else ())
        with (
            ledger_at(role.url, kind) as ledger,
            left_as_it_was(tmp_path) as path,
            pytest.raises(PermissionMissing),
        ):
            ledger.billing.export_usage_csv(EVERYTHING, to=path)


def test_a_database_without_the_schema_says_what_to_run(
    empty_database_url: str, kind: Kind, tmp_path: Path
) -> None:
    with (
        ledger_at(empty_database_url, kind) as ledger,
        left_as_it_was(tmp_path) as path,
        pytest.raises(SchemaNotReady, match="ledger db upgrade"),
    ):
        ledger.billing.export_usage_csv(EVERYTHING, to=path)


def test_settings_that_contradict_the_database_are_told(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(each for each in Storage if each is not stored.target.storage)
    monkeypatch.setenv("LEDGER_DATABASE_URL", stored.url)
    monkeypatch.setenv("LEDGER_STORAGE", other)
    with Ledger.from_environment() as ledger, pytest.raises(StorageMismatch, match=other):
        ledger.billing.export_usage_csv(EVERYTHING, to=tmp_path / "usage.csv")


# --- how much it takes ---


def plan(url: str, **asked: Any) -> Plan:
    """How the server answers, planned as on connections of the ledger's own."""
    asking = usage_export(EVERYTHING, **asked)
    own = engine(url)
    with own.connect() as connection:
        statement = asking.statement.compile(dialect=connection.dialect).string
        connection.exec_driver_sql(PLAN_TRANSACTION.decode())
        cursor = psycopg.ClientCursor(driver_of(connection))
        found = cursor.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}".encode(), asking.parameters
        ).fetchall()
    own.dispose()
    return Plan(found[0][0][0]["Plan"])


def test_the_server_merges_what_indexes_have_in_order_and_sorts_nothing(stored: Stored) -> None:
    with roles_of(stored.url) as roles:
        for url in (stored.url, roles.granted("auditor").url):
            merged = plan(url)
            assert merged.indexes == set(PARTS), str(merged)
            nodes = {node["Node Type"] for node in merged.nodes()}
            assert "Merge Append" in nodes, str(merged)
            assert not nodes & {"Sort", "Hash Join", "Materialize"}, str(merged)
            assert merged.thrown_away == 0, str(merged)


def test_a_status_reads_no_index_of_another(stored: Stored) -> None:
    assert plan(stored.url, status="success").indexes <= {PARTS[0], PARTS[2]}
    assert plan(stored.url, status="failed").indexes <= {PARTS[1], PARTS[2]}


@pytest.mark.storage("postgres")  # what is measured is the client
@pytest.mark.skipif(not STATUS.exists(), reason="the peak of memory is read from Linux's /proc")
def test_memory_does_not_grow_with_rows(database_url: str, tmp_path: Path) -> None:
    with Ledger.connect(database_url) as ledger:
        record_nasty_calls(ledger)
    record_calls(database_url, 150_000)
    for kind in KINDS:
        path = tmp_path / "usage.csv"
        exported = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.integration.test_billing_export",
                database_url,
                kind,
                path,
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        count, grown_kib = map(int, exported.stdout.split())
        assert count == 150_000 + len(NASTY)
        assert path.stat().st_size > 50 << 20
        assert grown_kib < 8 * 1024, kind


def _export_in_this_process(url: str, kind: Kind, path: str) -> None:
    """Says how many rows there were, and how far memory grew beyond that of few."""
    with ledger_at(url, kind) as ledger:
        ledger.billing.export_usage_csv(EVERYTHING, to=path, model="gpt-1")
        before = peak_kib()
        count = ledger.billing.export_usage_csv(EVERYTHING, to=path)
    sys.stdout.write(f"{count} {peak_kib() - before}\n")


if __name__ == "__main__":
    _export_in_this_process(*sys.argv[1:])  # type: ignore[arg-type]
