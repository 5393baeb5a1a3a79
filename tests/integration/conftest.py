"""Ledgers that many tests begin with; a module may have others by the same names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger import Ledger
from tests.audits import audited
from tests.ledgers import Books, books_at, ledger_at
from tests.writers import KINDS, Kind, stop_jobs


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Whether the ledger is called or awaited."""
    found: Kind = request.param
    return found


@pytest.fixture
def ledger(filled_url: str, kind: Kind) -> Iterator[Ledger]:
    """The ledger that the module filled, called and awaited."""
    with ledger_at(filled_url, kind) as ledger:
        yield ledger


@pytest.fixture
def empty(database_url: str, kind: Kind) -> Iterator[Ledger]:
    """A ledger that knows users and projects, and of no run."""
    with audited(database_url, kind=kind) as ledger:
        yield ledger


@pytest.fixture
def books(database_url: str, kind: Kind) -> Iterator[Books]:
    """Books of a ledger that is called, and of one that is awaited."""
    stop_jobs(database_url)
    with books_at(database_url, kind) as books:
        yield books


@pytest.fixture
def called(database_url: str) -> Iterator[Books]:
    """Books of a ledger that is called."""
    stop_jobs(database_url)
    with books_at(database_url) as books:
        yield books
