"""Both renderers, both encodings, held by their SQL where no TimescaleDB is at hand."""

from __future__ import annotations

import pytest

from ledger.settings import Percentiles, Storage
from tests.golden import KINDS, golden_file, rendered


@pytest.mark.parametrize("storage, encoding", KINDS)
def test_the_sql_is_as_it_was_reviewed(storage: Storage, encoding: Percentiles) -> None:
    reviewed = golden_file(storage, encoding).read_text()
    assert rendered(storage, encoding) == reviewed, (
        "if that is wanted: python -m tests.golden, and read the difference"
    )
