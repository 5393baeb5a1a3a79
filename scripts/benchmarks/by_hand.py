"""A connection of psycopg's own, beside the ledger's: what every figure is compared with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


@contextmanager
def by_hand(engine: Engine) -> Iterator[psycopg.Connection[Any]]:
    """To the engine's database, planned as the ledger's reads are, each statement for itself."""
    _, arguments = engine.dialect.create_connect_args(engine.url)
    with psycopg.connect(**arguments, autocommit=True) as connection:
        connection.execute("SET max_parallel_workers_per_gather = 0")
        connection.execute("SET jit = off")
        yield connection
