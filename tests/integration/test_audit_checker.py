"""A stranger's program finds in a file what `verify` finds in the database, and no more."""

from __future__ import annotations

import ast
import csv
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text

from ledger import Ledger
from ledger.engine import driver_of, engine
from ledger.maintenance.audit.verify import verify
from tests.audits import (
    FORGED_ERASURE,
    NESTED,
    OF_ERASURE,
    OTHER_PROJECT,
    PROJECT,
    audited,
    by_sql,
    execution,
)
from tests.databases import Databases, Target
from tests.roles import roles_of
from tests.writers import stop_jobs, superuser

ROOT: Final = Path(__file__).parents[2]
CHECKER: Final = ROOT / "scripts" / "verify_chain.py"

ERASED: Final = 4
RUNS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "of nothing": {
        "output": None,
        "error_message": None,
        "parent_run_id": None,
        "cost": 0,
        "input": {},
        "trace": {"duration_ms": 0},
    },
    "unicode": {
        "agent_id": "Zoë, the 🤖",
        "intent": 'Ключ "ä"\r\nund, \\N\n\\.\n\ttab\x01\u2028',
        "input": {"日本": ["\u00e9", "e\u0301", "\U0001f600", "\x7f", "</script>"]},
        "output": {"": {"nested": [None, True, [], {}]}},
        "error_message": "NULL",
    },
    "to be erased": {"created_at": datetime(2026, 3, 29, 1, 30, tzinfo=UTC)},
    "numbers": {
        "cost": {"total": Decimal("1.10"), "breakdown": {"tokens": Decimal("1E+3")}},
        "input": {
            "kept": [Decimal("1.10"), Decimal("1E+3"), Decimal("-0.0"), 1e-7, 10**300],
            "huge": Decimal(f"{'9' * 900}.{'1' * 900}"),
        },
        "trace": {"duration_ms": 2**53, "steps": [{"action": "pay", "cost_cents": "0.10"}]},
    },
    "dear": {
        "cost": {"total": Decimal("999999999999.999999999999")},
        "status": "failed",
        "error_message": ",",
        "created_at": datetime(1999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    },
    "large": {"output": {"text": "x" * 500_000}},
    "last": {"status": "aborted"},
}

UNGUARDED: Final = """
ALTER TABLE ledger.execution_ledger DISABLE TRIGGER ALL;
ALTER TABLE ledger.execution_ledger ALTER COLUMN total_cost_cents DROP EXPRESSION;
ALTER TABLE ledger.execution_ledger ALTER COLUMN duration_ms DROP EXPRESSION;
ALTER TABLE ledger.execution_ledger ALTER COLUMN intent DROP NOT NULL;
ALTER TABLE ledger.execution_ledger
  DROP CONSTRAINT execution_ledger_project_id_sequence_key CASCADE;
ALTER TABLE ledger.execution_erasures DISABLE TRIGGER ALL;
"""
"""What a superuser does first; it is undone with the transaction."""

CELLS: Final[dict[str, str]] = {
    "id": "019eca9e-b820-7002-80b9-d17232a4c83d",
    "user_id": "019eca9e-b820-7002-80b9-d17232a4c83d",
    "created_at": "2026-01-01T00:00:00",
    "recorded_at": "2026-01-01T00:00:00.000001",
    "duration_ms": "1",
    "run_id": "another",
    "parent_run_id": '""',
    "agent_id": "another",
    "status": "running",
    "total_cost_cents": "1.50",
    "intent": "another",
    "input": '{"question":"Why?"}',
    "output": "",
    "cost_json": '{"total": 1.5, "breakdown": {}}',
    "execution_trace_json": '{"duration_ms": 900, "steps": []}',
    "error_message": '""',
    "salt": f'"{"ab" * 32}"',
    "payload_digests": "00" * 192,
    "hash_version": "2",
    "previous_hash": "ab" * 32,
    "hash": "ab" * 32,
    "erasure": "1",
}
"""What is written over a cell of the first row, or the last."""

TAMPERINGS: Final = {
    "agent": "agent_id = 'another'",
    "run": "run_id = 'another'",
    "user": "user_id = gen_random_uuid()",
    "parent": "parent_run_id = coalesce(NULL, 'another')",
    "a parent of no name": "parent_run_id = ''",
    "status": "status = 'aborted'",
    "intent": "intent = intent || ' '",
    "no intent": "intent = NULL",
    "input": "input = jsonb_set(input, '{more}', '1')",
    "no output": "output = NULL",
    "breakdown": "cost_json = jsonb_set(cost_json, '{breakdown}', '{\"tokens\": 1}')",
    "total": "cost_json = jsonb_set(cost_json, '{total}', '7')",
    "the same total otherwise written": "cost_json = jsonb_set(cost_json, '{total}', '1.500')",
    "summed total": "total_cost_cents = total_cost_cents + 0.000000000001",
    "summed duration": "duration_ms = duration_ms + 1",
    "error": "error_message = 'nothing of note'",
    "an error of no words": "error_message = ''",
    "no salt": "salt = NULL",
    "an empty salt": r"salt = '\x'",
    "salt": "salt = sha256(salt)",
    "digests": "payload_digests = payload_digests || sha256('')",
    "recorded": "recorded_at = recorded_at - interval '1 microsecond'",
    "recorded before Christ": "recorded_at = '2026-01-01 00:00 BC'",
    "never recorded": "recorded_at = 'infinity'",
    "moment": "created_at = created_at + interval '1 millisecond'",
    "id": "id = gen_random_uuid()",
    "hash": "hash = sha256(hash)",
    "previous hash": "previous_hash = sha256(hash)",
}


OF_ROWS: Final = {
    "a row removed": "DELETE FROM ledger.execution_ledger WHERE {project} AND sequence = 3",
    "the first removed": "DELETE FROM ledger.execution_ledger WHERE {project} AND sequence = 1",
    "two changed places": "UPDATE ledger.execution_ledger SET sequence = 5 - sequence"
    " WHERE {project} AND sequence IN (2, 3)",
    "one moved to the end": "UPDATE ledger.execution_ledger SET sequence = 100"
    " WHERE {project} AND sequence = 2",
    "one moved before all": "UPDATE ledger.execution_ledger SET sequence = 0"
    " WHERE {project} AND sequence = 2",
    "one replaced by one that is right in itself": "UPDATE ledger.execution_ledger"
    " SET agent_id = 'another', hash = sha256(previous_hash || sha256(ledger.execution_encoding("
    "project_id, sequence, id, user_id, created_at, recorded_at, duration_ms, run_id,"
    " parent_run_id, 'another', status, total_cost_cents, payload_digests)))"
    " WHERE {project} AND sequence = 3",
    "no record of an erasure": "DELETE FROM ledger.execution_erasures WHERE {project}",
    "a record of a row that is not there": "INSERT INTO ledger.execution_erasures"
    " VALUES ('00000000-0000-0001-0000-000000000001', 99, 'forged', now(), 'me', 2, sha256(''))",
    "a record of none": FORGED_ERASURE + "{project} AND sequence = 2",
    **{
        f"the record of an erasure with another {column}": "UPDATE ledger.execution_erasures"
        f" SET {column} = {value} WHERE {{project}}"
        for column, value in OF_ERASURE.items()
    },
}
"""What is done to rows, of which one or the other may be called the first that does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the program said of a file, and how it ended."""

    code: int
    text: str

    @property
    def faults(self) -> list[str]:
        """A line for each project that does not hold."""
        return [line.strip() for line in self.text.splitlines() if line.startswith("  ")]


def said_of(file: Path, *options: str) -> Said:
    """What the program says, without this project's packages."""
    ended = subprocess.run(
        [sys.executable, "-I", "-S", CHECKER, file, *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=file.parent,
        timeout=60,
    )
    assert not ended.stderr
    return Said(code=ended.returncode, text=ended.stdout)


def command() -> str:
    """What the program says how its file is made."""
    said = ast.get_docstring(ast.parse(CHECKER.read_text(encoding="utf-8")))
    assert said is not None
    return "\n".join(line[4:] for line in said.splitlines() if line.startswith("    "))


def written(connection: psycopg.Connection[Any], file: Path) -> Path:
    """The file that the command makes."""
    (statement,) = re.findall(r'-c "(COPY .*)" > chain.csv', command(), re.DOTALL)
    with (
        file.open("wb") as to,
        connection.cursor() as cursor,
        cursor.copy(statement.encode()) as copy,
    ):
        for data in copy:
            to.write(data)
    return file


def cells_of(file: Path) -> list[dict[str, str]]:
    csv.field_size_limit(2**31 - 1)
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """Two projects' runs, and the file that the command makes of them."""

    url: str
    engine: Engine
    ledger: Ledger
    file: Path

    @contextmanager
    def tampered(self, *statements: str) -> Iterator[Connection]:
        """A superuser's connection, after these statements, which are undone."""
        with self.engine.connect() as connection:
            checks = connection.scalars(
                text(
                    "SELECT conname FROM pg_constraint WHERE contype = 'c'"
                    " AND conrelid = 'ledger.execution_ledger'::regclass"
                )
            ).all()
            dropped = (
                f"ALTER TABLE ledger.execution_ledger DROP CONSTRAINT {name}" for name in checks
            )
            for statement in (*dropped, UNGUARDED, *statements):
                connection.exec_driver_sql(
                    statement.replace("{project}", f"project_id = '{PROJECT}'")
                )
            yield connection
            connection.rollback()

    def rewritten(self, to: Path, change: Callable[[list[dict[str, str]]], object]) -> Path:
        """The file, after a change of its cells."""
        rows = cells_of(self.file)
        change(rows)
        with to.open("w", encoding="utf-8", newline="") as lines:
            changed = csv.DictWriter(lines, rows[0])
            changed.writeheader()
            changed.writerows(rows)
        return to


@pytest.fixture(scope="module")
def chains(
    databases: Databases, target: Target, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chains]:
    name = databases.create(target.server, template=databases.template(target))
    url = databases.url(target.server, name)
    stop_jobs(url)
    runs = (
        execution(f"{prefix}{run_id}", project_id=project, **what_matters)
        for run_id, what_matters in RUNS.items()
        for prefix, project in (("", PROJECT), ("other ", OTHER_PROJECT))
    )
    own = engine(url)
    with audited(url, *runs) as ledger, superuser(url) as connection:
        ledger.audit.erase_payload(list(RUNS)[ERASED - 1], "asked for")
        # What is written does not depend on how a session has times and bytes.
        connection.execute("SET timezone = 'Asia/Kolkata'; SET datestyle = 'SQL, DMY'")
        connection.execute("SET bytea_output = 'escape'; SET client_encoding = 'LATIN1'")
        file = written(connection, tmp_path_factory.mktemp("chains") / "chain.csv")
        yield Chains(url=url, engine=own, ledger=ledger, file=file)
    own.dispose()
    databases.drop(name)


def the_program() -> ModuleType:
    """The program, as a module."""
    spec = importlib.util.spec_from_file_location("verify_chain", CHECKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def row_at(rows: list[dict[str, str]], sequence: int) -> dict[str, str]:
    return next(
        row for row in rows if (row["project_id"], row["sequence"]) == (str(PROJECT), str(sequence))
    )


def test_a_chain_that_nobody_changed_holds_to_its_head(chains: Chains) -> None:
    said = said_of(chains.file)

    heads = {head.project_id: head.hash.hex() for head in chains.ledger.audit.checkpoint().heads}
    assert said == Said(
        code=0,
        text=f"{PROJECT}: {len(RUNS)} rows hold, 1 of them erased; {heads[PROJECT]}\n"
        f"{OTHER_PROJECT}: {len(RUNS)} rows hold, 0 of them erased; {heads[OTHER_PROJECT]}\n",
    )
    assert chains.ledger.audit.verify_all().is_intact


def test_its_encoding_is_the_databases_byte_for_byte(chains: Chains) -> None:
    with superuser(chains.url) as connection:
        stored = connection.execute(
            """SELECT run_id, ledger.execution_encoding(project_id, sequence, id, user_id,
              created_at, recorded_at, duration_ms, run_id, parent_run_id, agent_id, status,
              total_cost_cents, payload_digests) FROM ledger.execution_ledger"""
        ).fetchall()
    encoding = the_program().encoding

    assert {row["run_id"]: encoding(row) for row in cells_of(chains.file)} == dict(stored)
    assert len(stored) == 2 * len(RUNS)


def test_it_needs_the_standard_library_alone() -> None:
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(CHECKER.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


def test_the_command_is_the_documented_one() -> None:
    document = (ROOT / "docs" / "proofs.md").read_text(encoding="utf-8")
    assert f"```sh\n{command()}\n```" in document


@pytest.mark.parametrize("place", [1, len(RUNS)])
@pytest.mark.parametrize("column", CELLS)
def test_a_cell_that_was_changed_is_found_in_its_row(
    chains: Chains, tmp_path: Path, column: str, place: int
) -> None:
    changed = chains.rewritten(
        tmp_path / "chain.csv",
        lambda rows: row_at(rows, place).update({column: CELLS[column]}),
    )

    said = said_of(changed)

    assert said.code == 1
    (fault,) = said.faults
    run_id = CELLS["run_id"] if column == "run_id" else list(RUNS)[place - 1]
    assert fault.startswith(f"row {place}, run {run_id!r}: ")
    assert f"{PROJECT}: {place - 1} rows hold" in said.text
    assert f"{OTHER_PROJECT}: {len(RUNS)} rows hold" in said.text


@pytest.mark.parametrize("column", ["intent", "input", "output", "cost_json", "error_message"])
def test_the_payload_that_was_changed_is_named(chains: Chains, tmp_path: Path, column: str) -> None:
    changed = chains.rewritten(
        tmp_path / "chain.csv", lambda rows: row_at(rows, 1).update({column: CELLS[column]})
    )

    assert said_of(changed).faults == [f"row 1, run 'plain': {column} is not what was recorded"]


@pytest.mark.parametrize("column", [*CELLS, "project_id", "sequence"])
def test_a_cell_of_nonsense_is_a_fault_and_no_error(
    chains: Chains, tmp_path: Path, column: str
) -> None:
    changed = chains.rewritten(
        tmp_path / "chain.csv", lambda rows: row_at(rows, 3).update({column: "[" * 5000})
    )

    assert said_of(changed).code == 1


def test_a_trace_that_is_nested_deeper_than_python_goes_holds(
    database_url: str, tmp_path: Path
) -> None:
    row = by_sql(execution_trace_json={"duration_ms": 7, "steps": NESTED})
    with audited(database_url), superuser(database_url) as connection:
        connection.execute("SELECT ledger.append_executions(ARRAY[%s], %s)", [PROJECT, row])
        said = said_of(written(connection, tmp_path / "chain.csv"))

    assert (said.code, " 1 rows hold" in said.text) == (0, True)


@pytest.mark.parametrize("place", [1, ERASED])
@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_it_agrees_with_the_database_on_changed_rows(
    chains: Chains, tmp_path: Path, tampering: str, place: int
) -> None:
    statement = (
        f"UPDATE ledger.execution_ledger SET {TAMPERINGS[tampering]}"
        f" WHERE project_id = '{PROJECT}' AND sequence = {place}"
    )
    with chains.tampered(statement) as connection:
        found = verify(connection, PROJECT)
        said = said_of(written(driver_of(connection), tmp_path / "chain.csv"))

    assert (said.code == 0) == found.is_intact
    if found.first_fault is not None:
        assert found.first_fault.sequence == place
        assert said.faults[0].startswith(f"row {place}, ")


@pytest.mark.parametrize("statement", OF_ROWS.values(), ids=OF_ROWS)
def test_it_agrees_with_the_database_on_rows_and_erasures(
    chains: Chains, tmp_path: Path, statement: str
) -> None:
    with chains.tampered(statement) as connection:
        found = verify(connection, PROJECT)
        said = said_of(written(driver_of(connection), tmp_path / "chain.csv"))

    assert not found.is_intact
    assert said.code == 1
    assert said.faults[0].startswith("row ")


def test_a_tail_that_was_cut_off_is_missed_by_a_checkpoint(chains: Chains, tmp_path: Path) -> None:
    cut = chains.rewritten(
        tmp_path / "chain.csv", lambda rows: rows.remove(row_at(rows, len(RUNS)))
    )
    checkpoint = tmp_path / "checkpoint.json"
    checkpoint.write_text(chains.ledger.audit.checkpoint().to_json(), encoding="utf-8")

    assert said_of(cut).code == 0, "nothing in the rows tells it"
    said = said_of(cut, "--checkpoint", str(checkpoint))

    assert said.code == 1
    assert said.faults == [f"row {len(RUNS)}: it was there at the checkpoint, and is gone"]
    assert said_of(chains.file, "--checkpoint", str(checkpoint)).code == 0


def test_a_history_that_was_written_anew_is_found_by_a_checkpoint(
    chains: Chains, tmp_path: Path
) -> None:
    taken = json.loads(chains.ledger.audit.checkpoint().to_json())
    taken["heads"][0]["hash"] = "ab" * 32
    checkpoint = tmp_path / "checkpoint.json"
    checkpoint.write_text(json.dumps(taken), encoding="utf-8")

    said = said_of(chains.file, "--checkpoint", str(checkpoint))

    assert said.code == 1
    assert f"row {len(RUNS)}, run 'last': " in said.faults[0]
    assert "not what the checkpoint saw" in said.faults[0]


def test_a_project_that_is_gone_is_missed_by_a_checkpoint(chains: Chains, tmp_path: Path) -> None:
    gone = chains.rewritten(
        tmp_path / "chain.csv",
        lambda rows: rows.__setitem__(
            slice(None), [row for row in rows if row["project_id"] != str(PROJECT)]
        ),
    )
    checkpoint = tmp_path / "checkpoint.json"
    checkpoint.write_text(chains.ledger.audit.checkpoint().to_json(), encoding="utf-8")

    said = said_of(gone, "--checkpoint", str(checkpoint))

    assert (said.code, said.faults) == (
        1,
        ["row 1: it was there at the checkpoint, and is gone"],
    )


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.999])
def test_a_file_that_was_cut_off_does_not_pass(
    chains: Chains, tmp_path: Path, share: float
) -> None:
    whole = chains.file.read_bytes()
    cut = tmp_path / "chain.csv"
    cut.write_bytes(whole[: int(len(whole) * share)])

    ended = subprocess.run([sys.executable, CHECKER, cut], check=False, capture_output=True)

    assert ended.returncode == 1


def test_an_auditor_may_run_the_command(chains: Chains, tmp_path: Path) -> None:
    with roles_of(chains.url) as roles:
        role = roles.granted("auditor")
        with role.connect() as connection:
            file = written(connection, tmp_path / "chain.csv")

    assert file.read_bytes() == chains.file.read_bytes()
