"""Books that most tests of billing begin with; a module may have others by the same names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ledgers import Books, books_at
from tests.writers import KINDS, Kind, stop_jobs


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Whether the ledger is called or awaited."""
    found: Kind = request.param
    return found


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
