"""Alembic as its users start it: as a program, and from Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from alembic.config import Config

from ledger.ddl import migrate
from tests.databases import Target

CHECKOUT = Path(__file__).parent.parent


def environment(target: Target, url: str | None = None) -> dict[str, str]:
    """The environment of a deploy, with nothing of the ledger's in it but this."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    kept |= {"LEDGER_STORAGE": target.storage, "LEDGER_PERCENTILES": target.percentiles}
    return kept if url is None else kept | {"LEDGER_DATABASE_URL": url}


def alembic(url: str | None, target: Target, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`alembic ...` in the checkout."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "alembic", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env=environment(target, url),
        timeout=120,
    )


def config(url: str, target: Target, versions: Path | None = None) -> Config:
    """What a Python program hands to `alembic.command`; further revisions go to ``versions``."""
    ours = migrate._config(
        ledger_url=url, ledger_storage=target.storage, ledger_percentiles=target.percentiles
    )
    if versions is not None:
        ours.set_main_option("path_separator", "os")
        locations = [str(migrate.scripts() / "versions"), str(versions)]
        ours.set_main_option("version_locations", os.pathsep.join(locations))
    return ours
