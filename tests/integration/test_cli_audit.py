"""`ledger audit`: what a person at a terminal is told of runs, and of what was done to them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.records.checkpoint import Checkpoint, InclusionProof
from scripts.demo_audit import make_cheaper, run_agents
from tests.audits import PROJECT, execution, introduce
from tests.commands import Ran, run
from tests.writers import sql

TAMPER = """ALTER TABLE ledger.execution_ledger DISABLE TRIGGER ALL;
UPDATE ledger.execution_ledger SET agent_id = 'another' WHERE run_id = 'second'"""


@pytest.fixture
def audit(database_url: str) -> Callable[..., Ran]:
    """Runs `ledger audit` with these arguments on the test's database."""
    return lambda *arguments: run("audit", *arguments, "--database-url", database_url)


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    with Ledger.connect(database_url) as ledger:
        introduce(ledger)
        ledger.audit.record_executions(
            [
                execution("first", agent_id="backend", error_message=None),
                execution("second", agent_id="backend", status="failed", error_message="It broke"),
                execution("third", agent_id="research", cost="0.25"),
            ]
        )
        yield ledger


@pytest.mark.usefixtures("ledger")
def test_runs_that_nobody_changed_are_said_to_be_as_recorded(audit: Callable[..., Ran]) -> None:
    said = audit("verify")

    assert said.exit_code == 0
    assert said.out == (
        f"Project {PROJECT}: 3 runs in place.\nThe runs are as they were recorded.\n"
    )


@pytest.mark.usefixtures("ledger")
def test_a_run_that_was_changed_is_named_and_so_is_what_guarded_it(
    audit: Callable[..., Ran], database_url: str
) -> None:
    sql(database_url, TAMPER)

    said = audit("verify")

    assert said.exit_code == 1
    assert "1 run in place" in said.out
    assert "Changed: row 2, run second: what it says is not what was hashed." in said.out
    assert "Unguarded: execution_ledger: trigger execution_ledger_keeps_rows" in said.out
    found = json.loads(audit("verify", "--project", str(PROJECT), "--json").out)
    assert (found["is_intact"], found["rows"], found["first_fault"]["run_id"]) == (
        False,
        1,
        "second",
    )


@pytest.mark.usefixtures("ledger")
def test_a_signed_checkpoint_is_kept_and_proves_runs(
    audit: Callable[..., Ran], database_url: str, tmp_path: Path
) -> None:
    private, public, kept, proof = (
        str(tmp_path / name) for name in ("private.pem", "public.pem", "kept.json", "proof.json")
    )
    assert run("audit", "new-key", private, public).exit_code == 0
    assert Path(private).stat().st_mode & 0o077 == 0
    assert audit("checkpoint", "--to", kept, "--private-key", private).exit_code == 0

    verified = audit("verify", "--checkpoint", kept, "--public-key", public)
    proved = audit("prove", "second", "--checkpoint", kept, "--to", proof)

    assert (verified.exit_code, proved.exit_code) == (0, 0)
    assert "as at the checkpoint of" in verified.out
    trusted = Checkpoint.from_json(Path(kept).read_text())
    read = InclusionProof.from_json(Path(proof).read_text())
    assert read.proves(trusted)
    assert read.merkle_root == trusted.merkle_root

    sql(database_url, "ALTER TABLE ledger.execution_ledger DISABLE TRIGGER ALL")
    sql(database_url, "ALTER TABLE ledger.execution_heads DISABLE TRIGGER ALL")
    sql(database_url, "DELETE FROM ledger.execution_ledger WHERE run_id = 'third'")
    late = audit("verify", "--checkpoint", kept)
    assert late.exit_code == 1
    assert "Truncated: row 3" in late.out


@pytest.mark.usefixtures("ledger")
def test_a_signed_checkpoint_that_was_altered_is_no_witness(
    audit: Callable[..., Ran], tmp_path: Path
) -> None:
    private, public, kept = (str(tmp_path / name) for name in ("private", "public", "kept"))
    assert run("audit", "new-key", private, public).exit_code == 0
    assert audit("checkpoint", "--to", kept, "--private-key", private).exit_code == 0
    verified = audit("verify", "--checkpoint", kept)
    assert verified.exit_code == 0
    assert "whose that is, --public-key tells" in " ".join(verified.err.split())

    document = json.loads(Path(kept).read_text()) | {"taken_at": "2020-01-01T00:00:00Z"}
    Path(kept).write_text(json.dumps(document))
    for command in (("verify",), ("verify", "--project", str(PROJECT)), ("prove", "second")):
        said = audit(*command, "--checkpoint", kept)
        assert said.exit_code == 3
        assert "is not what the key" in " ".join(said.err.split())


def test_what_others_wrote_steers_no_terminal_and_fits_a_table(
    audit: Callable[..., Ran], ledger: Ledger
) -> None:
    message = "first line\nsecond \x1b[31m " + "x" * 9_000
    ledger.audit.record_execution(
        execution("[/bold]\x1b[31m", status="failed", error_message=message)
    )
    ledger.audit.erase_payload("first", "\x1b[31mred")

    erased = audit("erase", "first", "--reason", "again").out
    failed = audit("failed").out

    assert "\x1b" not in erased + failed
    assert "red" in erased
    assert "first line second" in failed
    assert max(map(len, failed.splitlines())) < 400


def test_a_fault_without_a_place_is_told_without_one(
    audit: Callable[..., Ran], ledger: Ledger, database_url: str
) -> None:
    sql(
        database_url,
        "INSERT INTO ledger.execution_days (bucket, project_id, agent_id, status, executions,"
        " total_cost_cents, least_cost_cents, greatest_cost_cents, duration_ms)"
        f" VALUES ('1999-01-01Z', '{PROJECT}', 'x', 'completed', 1, 1, 1, 1, 1)",
    )
    assert not ledger.audit.verify(PROJECT).is_intact
    assert "  Missing: the sums of 1999-01-01" in audit("verify").out


def test_a_ledger_of_which_something_is_gone_is_not_sent_to_upgrade(
    audit: Callable[..., Ran], database_url: str
) -> None:
    sql(database_url, "DROP TABLE ledger.execution_erasures CASCADE")
    said = audit("verify")
    assert said.exit_code == 1
    assert "Unguarded: execution_erasures: table execution_erasures is missing" in said.out
    assert "No runs are recorded" not in said.out
    assert said.out.endswith("Something is not as it was recorded.\n")


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (("verify", "--checkpoint", "nowhere.json"), 2, "nowhere.json cannot be read"),
        (("verify", "--public-key", "key.pem"), 2, "--checkpoint"),
        (("checkpoint", "--private-key", "nowhere.pem"), 2, "nowhere.pem cannot be read"),
        (("show", "nothing"), 1, "No run 'nothing' is recorded"),
        (("erase", "nothing", "--reason", "asked for"), 3, "no such run is recorded"),
        (("erase", "first", "--reason", "  "), 3, "is blank"),
        (("agent", "backend", "--to", "2026-01-01"), 2, "--from"),
        (("prove", "nothing", "--checkpoint", "nowhere.json"), 2, "cannot be read"),
    ],
)
@pytest.mark.usefixtures("ledger")
def test_wrong_use_is_explained(
    audit: Callable[..., Ran], arguments: tuple[str, ...], code: int, said: str
) -> None:
    found = audit(*arguments)

    assert found.exit_code == code
    assert said in found.out + found.err
    assert "Traceback" not in found.err


@pytest.mark.usefixtures("ledger")
def test_a_run_id_that_is_no_text_is_refused(audit: Callable[..., Ran], tmp_path: Path) -> None:
    kept = str(tmp_path / "kept.json")
    assert audit("checkpoint", "--to", kept).exit_code == 0

    # What Python makes of an argument that is not UTF-8.
    found = audit("prove", "\udcff", "--checkpoint", kept)

    assert found.exit_code == 2
    assert "run_id '\\udcff' holds a character that no text can" in found.err


@pytest.mark.parametrize("public", ["public.pem", "private.pem", "nowhere/public.pem"])
def test_keys_are_made_both_or_neither(tmp_path: Path, public: str) -> None:
    private, there = tmp_path / "private.pem", tmp_path / "public.pem"
    there.write_text("another's")

    said = run("audit", "new-key", str(private), str(tmp_path / public))

    assert said.exit_code == 3
    assert f"{tmp_path / public} cannot be written" in said.err
    assert ("name two new files" in said.err) == (public != "nowhere/public.pem")
    assert list(tmp_path.iterdir()) == [there]
    assert there.read_text() == "another's"
    assert run("audit", "new-key", str(private), str(tmp_path / "new.pem")).exit_code == 0


@pytest.mark.usefixtures("ledger")
def test_figures_are_shown_as_tables_and_as_json(audit: Callable[..., Ran]) -> None:
    agent = audit("agent", "backend")
    assert agent.out.startswith("Agent backend, all times\n")
    assert "3.00" in agent.out
    assert re.fullmatch(r"Percentiles are within \d\.\d\d%; the rest is exact\.\n", agent.err)
    assert not audit("agent", "nobody").err + audit("agent", "backend", "--json").err
    project = audit("project", str(PROJECT), "--json")
    assert json.loads(project.out)["total_cost_cents"] == "3.25"
    assert "research" in audit("project", str(PROJECT)).out
    assert "It broke" in audit("failed").out
    assert [run["run_id"] for run in json.loads(audit("failed", "--json").out)] == ["second"]
    assert json.loads(audit("show", "third").out)["total_cost_cents"] == "0.25"


def test_a_run_is_erased_and_said_to_be(audit: Callable[..., Ran], ledger: Ledger) -> None:
    said = audit("erase", "first", "--reason", "A request of the person.")

    assert said.exit_code == 0
    assert "A request of the person." in said.out
    found = ledger.audit.execution("first")
    assert found is not None
    assert found.is_erased
    assert "1 run erased" in audit("verify").out


@pytest.mark.usefixtures("ledger")
def test_the_demo_adds_to_the_runs_that_it_finds(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger.connect(database_url) as ledger:
        for first in (1, 4):
            run_agents(ledger)
            said = capsys.readouterr().out.splitlines()
            ids = [f"demo-{number}" for number in range(first, first + 3)]
            assert [line.split(":")[0].strip() for line in said] == ids
            assert all(ledger.audit.execution(run_id) for run_id in ids)


def test_the_run_that_the_demo_changes_is_found(
    database_url: str, audit: Callable[..., Ran]
) -> None:
    with Ledger.connect(database_url) as ledger:
        run_agents(ledger)
    assert audit("verify").exit_code == 0
    make_cheaper(database_url)

    found = audit("verify")
    assert found.exit_code == 1
    assert "demo-2" in found.out
