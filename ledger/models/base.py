"""What every model shares: the schema, the names of constraints, the type of money."""

from __future__ import annotations

from typing import Final

from sqlalchemy import MetaData, Numeric
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import DeclarativeBase

SCHEMA: Final = "ledger"

Money: Final = Numeric(24, 12)
"""US dollars: exact, to a millionth of a millionth, up to a million million."""

Multiplier: Final = Numeric(12, 6)
"""What a cost is multiplied by to be charged."""

Moment: Final = TIMESTAMP(timezone=True, precision=3)
"""A moment to the millisecond, as a UUIDv7 holds it."""


class Base(DeclarativeBase):
    """The ledger's models, all in the PostgreSQL schema `ledger`."""

    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        },
    )
