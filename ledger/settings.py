"""What the environment and `.env` say: where the database is, and how it is to be installed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledger.errors import InvalidSettings


class Storage(StrEnum):
    """What holds the time series: TimescaleDB, or PostgreSQL without an extension."""

    TIMESCALE = "timescale"
    POSTGRES = "postgres"


class Percentiles(StrEnum):
    """How rollups keep latencies: the toolkit's sketch, or log-spaced bins."""

    UDDSKETCH = "uddsketch"
    HISTOGRAM = "histogram"


MOST_TOLERANCE: Final = timedelta(days=1)
"""How far ahead of the database's clock records may be at most."""


def _seconds(value: object) -> object:
    """A number alone is of seconds; pydantic reads 00:05:00 and 5 minutes by itself."""
    return timedelta(seconds=int(value)) if isinstance(value, str) and value.isdecimal() else value


def _unless_auto(value: object) -> object:
    return None if value in {"auto", ""} else value


class Settings(BaseSettings):
    """`LEDGER_*` from the environment, else from `.env` in the working directory."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    database_url: Annotated[
        SecretStr | None,
        Field(
            validation_alias=AliasChoices(
                "LEDGER_DATABASE_URL", "LEDGER_PG_CONNECTION_STRING", "DATABASE_URL"
            )
        ),
    ] = None
    read_url: Annotated[SecretStr | None, Field(validation_alias="LEDGER_READ_URL")] = None
    migration_url: Annotated[SecretStr | None, Field(validation_alias="LEDGER_MIGRATION_URL")] = (
        None
    )
    storage: Annotated[
        Storage | None, BeforeValidator(_unless_auto), Field(validation_alias="LEDGER_STORAGE")
    ] = None
    percentiles: Annotated[
        Percentiles | None,
        BeforeValidator(_unless_auto),
        Field(validation_alias="LEDGER_PERCENTILES"),
    ] = None
    future_tolerance: Annotated[
        timedelta,
        BeforeValidator(_seconds),
        Field(validation_alias="LEDGER_FUTURE_TOLERANCE", ge=timedelta(0), le=MOST_TOLERANCE),
    ] = timedelta(minutes=5)

    credit_value_usd: Annotated[
        Decimal,
        Field(validation_alias="LEDGER_CREDIT_VALUE_USD", gt=0, decimal_places=12, max_digits=24),
    ] = Decimal("0.01")
    charges_failures: Annotated[bool, Field(validation_alias="LEDGER_CHARGES_FAILURES")] = False

    @classmethod
    def load(cls) -> Settings:
        """Read the environment. Raises InvalidSettings, naming the variable, never its secret."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            raise InvalidSettings(f"{name}: {first['msg']}") from None

    def require_database_url(self) -> str:
        """The database's URL. Raises InvalidSettings where none is set."""
        if self.database_url is None:
            raise InvalidSettings(
                "no database is named; set LEDGER_DATABASE_URL, for example"
                " postgresql://user@host/name, or use --embedded FOLDER"
            )
        return self.database_url.get_secret_value()
