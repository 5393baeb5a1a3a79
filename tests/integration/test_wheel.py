"""The wheel alone, as somebody installs it: no checkout, and everything is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

PROJECT = Path(__file__).parents[2]
COMMAND = "import ledger, ledger.cli.main; print(ledger.__file__); ledger.cli.main.main()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel puts beside other packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", folder], cwd=PROJECT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as packed:
        packed.extractall(folder / "installed")
    return folder / "installed"


def run(installed: Path, *arguments: str) -> str:
    """What the wheel's own `ledger` says, in an empty folder."""
    empty = installed.parent / "empty"
    empty.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    ran = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=empty,
        env=kept | {"PYTHONPATH": str(installed)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    place, _, said = ran.stdout.partition("\n")
    assert place == str(installed / "ledger" / "__init__.py")
    return said


def test_it_migrates_a_database_and_finds_it_as_declared(
    installed: Path, empty_database_url: str
) -> None:
    here = ("--database-url", empty_database_url)
    run(installed, *here, "db", "upgrade")
    assert "as declared" in run(installed, *here, "db", "check")
    assert "Recorded 50 calls" in run(installed, *here, "seed", "--rows", "50")


def test_it_brings_its_types_along(installed: Path) -> None:
    assert (installed / "ledger" / "py.typed").exists()
    assert not (installed / "tests").exists()
