"""A connection of psycopg's own, beside the ledger's: what every figure is compared with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from ledger.engine import PLANNED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


@contextmanager
def by_hand(engine: Engine) -> Iterator[psycopg.Connection[Any]]:
    """To the engine's database, as psycopg makes it."""
    _, arguments = engine.dialect.create_connect_args(engine.url)
    with psycopg.connect(**arguments, autocommit=True) as connection:
        yield connection


@contextmanager
def planned_by_hand(engine: Engine) -> Iterator[psycopg.Connection[Any]]:
    """The same, planned as the ledger's reads are."""
    with by_hand(engine) as connection:
        for setting, value in PLANNED.items():
            connection.execute("SELECT set_config(%s, %s, false)", (setting, value))
        yield connection
