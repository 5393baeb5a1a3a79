"""The README's examples are run, and print what it says they print."""

from __future__ import annotations

import contextlib
import io
import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from ledger.cli.main import app
from ledger.embedded import EmbeddedPostgres
from tests.servers import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
USER = "0f4b7c1e-5a7e-4c52-9d63-2f1f8a6b9e11"

# What was counted and when differs from run to run; what is said about it does not.
CHANGING = re.compile(r"\d[\d,.:]*|\s+")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("COLUMNS", "200")
    with ExitStack() as closing:
        leave: list[Callable[[], object]] = []
        place = temporary_folder(leave)
        place.chmod(0o755)  # as root, the server runs as another user
        closing.callback(lambda: [end() for end in leave])
        monkeypatch.chdir(place)
        # Kept running between the examples.
        closing.enter_context(EmbeddedPostgres.start(place / "ledger-data"))
        yield place / "ledger-data"
        monkeypatch.undo()


def python_examples() -> list[tuple[str, str | None]]:
    """Each Python block, and the text block after it: what it prints."""
    following = [*BLOCKS[1:], ("", "")]
    return [
        (body, after if kind_after == "text" else None)
        for (kind, body), (kind_after, after) in zip(BLOCKS, following, strict=True)
        if kind == "python"
    ]


def console_examples() -> list[tuple[list[str], str]]:
    """Each command of the console blocks, and what it prints."""
    examples = []
    for body in (body for kind, body in BLOCKS if kind == "console"):
        for command in re.split(r"^\$ ledger ", body, flags=re.MULTILINE)[1:]:
            line, _, printed = command.partition("\n")
            examples.append((line.split(), printed))
    return examples


def said(text: str) -> str:
    """The words of an output, without what changes from run to run."""
    return CHANGING.sub(" ", text).strip()


@pytest.mark.usefixtures("folder")
def test_the_python_examples_print_what_the_readme_says() -> None:
    examples = python_examples()
    assert len(examples) >= 2
    for source, printed in examples:
        output = io.StringIO()
        namespace: dict[str, Any] = {}
        with contextlib.redirect_stdout(output):
            exec(compile(source, "README.md", "exec"), namespace)
        assert printed is None or output.getvalue() == printed


def test_the_commands_print_what_the_readme_says(folder: Path) -> None:
    runner = CliRunner()

    def ledger(arguments: list[str]) -> str:
        result = runner.invoke(app(), ["--embedded", str(folder), *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    ledger(["db", "upgrade"])
    ledger(["seed", "--rows", "5000", "--bill", "--user", USER])
    ledger(["maintain"])
    examples = console_examples()
    assert len(examples) >= 5
    for arguments, printed in examples:
        if printed:
            assert said(ledger(arguments)) == said(printed), arguments
