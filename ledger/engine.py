"""Connections to PostgreSQL: the forms of a URL, engines and their pools, a driver's errors."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import create_async_engine

from ledger.errors import DatabaseUnavailable, InvalidSettings, translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

DRIVER: Final = "postgresql+psycopg"

PLANNED: Final = {
    # A parallel Gather on the nearly empty tail of a window costs 9 ms, and JIT more.
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    # A generic plan on TimescaleDB locks every chunk, and on partitions reads too many.
    "plan_cache_mode": "force_custom_plan",
    # A user's rows of an hour lie together, which no statistics say: at 4, the default for
    # spinning disks, a week of one user is read from the week of all (21 ms for 3).
    "random_page_cost": "1.1",
}
"""How reads are planned on connections of ours."""

_SETTINGS: Final = ", ".join(
    f"set_config('{name}', '{value}', {{is_local}})" for name, value in PLANNED.items()
)
PLAN_TRANSACTION: Final = f"SELECT {_SETTINGS.format(is_local='true')}".encode()
"""Plans the transaction under way, and no other."""
_PLAN_SESSION: Final = f"SELECT {_SETTINGS.format(is_local='false')}"

_FORMS: Final = {"postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg_async"}
_YES: Final = {"1", "true", "yes", "on"}
_NO: Final = {"0", "false", "no", "off"}


def database_url(url: str | URL) -> URL:
    """The URL as our engines take it, from postgres://, postgresql:// or postgresql+psycopg://.

    Raises InvalidSettings, which never repeats the URL: it may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # `from None`: the parser's own error may quote what it read.
        raise InvalidSettings(
            "the database URL cannot be read; write it as postgresql://user:password@host:5432/name"
            " and percent-encode signs such as @ and / in the password"
        ) from None
    if parsed.drivername not in _FORMS:
        form = parsed.drivername if re.fullmatch(r"[a-z0-9_+]+", parsed.drivername) else "this URL"
        raise InvalidSettings(
            f"the ledger connects through psycopg 3, not {form}; use postgresql://, or bind the"
            " ledger to a connection of yours with Ledger.bound(connection)"
        )
    if "@" in (parsed.host or ""):
        raise InvalidSettings(
            "the database URL has an @ inside its password; percent-encode it as %40"
        )
    if (password := parsed.query.get("password")) is not None:
        # In the query it would be shown wherever the URL is.
        parsed = parsed.difference_update_query(["password"]).set(
            password=password if isinstance(password, str) else password[-1]
        )
    return parsed.set(drivername=DRIVER)


def shown(url: str | URL) -> str:
    """The URL for a person to read, without its password."""
    return database_url(url).render_as_string(hide_password=True)


def engine(url: str | URL, *, pooled_by_pgbouncer: bool = False) -> Engine:
    """An engine on psycopg 3 with a pool; it connects on first use.

    Behind PgBouncer in transaction mode say ``?pgbouncer=true`` in the URL, or
    ``pooled_by_pgbouncer``: statements are then never prepared on the server.
    """
    cleaned, options, _ = _options(url, pooled_by_pgbouncer=pooled_by_pgbouncer)
    return create_engine(cleaned, **options)


def async_engine(url: str | URL, *, pooled_by_pgbouncer: bool = False) -> AsyncEngine:
    """The same engine, awaited."""
    cleaned, options, _ = _options(url, pooled_by_pgbouncer=pooled_by_pgbouncer)
    return create_async_engine(cleaned, **options)


def reading_engine(url: str | URL, *, pooled_by_pgbouncer: bool = False) -> Engine:
    """An engine for reads: one round trip each, planned as ``PLANNED`` says.

    Its pool is its own, so that its connections are set up for reads once: they commit each
    statement, and are not tried before use. Who reads asks again where one had gone.

    Behind PgBouncer a read is a transaction, planned by ``PLAN_TRANSACTION``: the settings of a
    session would stay with a server connection that others use.
    """
    cleaned, options, is_pooled = _options(url, pooled_by_pgbouncer=pooled_by_pgbouncer)
    opened = create_engine(cleaned, **_for_reading(options, is_pooled=is_pooled))
    if not is_pooled:
        event.listen(opened, "connect", _plan_session)
    return opened


def async_reading_engine(url: str | URL, *, pooled_by_pgbouncer: bool = False) -> AsyncEngine:
    """The same engine, awaited."""
    cleaned, options, is_pooled = _options(url, pooled_by_pgbouncer=pooled_by_pgbouncer)
    opened = create_async_engine(cleaned, **_for_reading(options, is_pooled=is_pooled))
    if not is_pooled:
        event.listen(opened.sync_engine, "connect", _plan_session)
    return opened


def driver_of(connection: Connection) -> psycopg.Connection[Any]:
    """Psycopg's own connection, below SQLAlchemy's."""
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]  # None only where it is closed
    return driver


def commits_each_statement(connection: Connection) -> bool:
    """Whether it is in autocommit, as the driver says: several options can have set it."""
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


async def async_driver_of(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    """The same, of an asynchronous connection."""
    raw = await connection.get_raw_connection()
    driver: psycopg.AsyncConnection[Any] = raw.driver_connection  # type: ignore[assignment]  # None only where it is closed
    return driver


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise the ledger's error for a driver's, with the driver's as its cause.

    What has no translation, such as a statement timeout or a deadlock, passes as it is, so
    that a host's own handling of those keeps working.
    """
    try:
        yield
    except NoConnectionFree as error:
        raise DatabaseUnavailable(f"no connection became free: {error}") from error
    except (DBAPIError, psycopg.Error) as error:
        if (translated := translate(error)) is None:
            raise
        raise translated from error
    except NoSuchModuleError as error:
        raise InvalidSettings(str(error)) from error


def _for_reading(options: dict[str, Any], *, is_pooled: bool) -> dict[str, Any]:
    commits = {} if is_pooled else {"isolation_level": "AUTOCOMMIT"}
    return options | {"pool_pre_ping": False} | commits


def _plan_session(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute(_PLAN_SESSION)
    cursor.close()
    connection.commit()


def _options(url: str | URL, *, pooled_by_pgbouncer: bool) -> tuple[URL, dict[str, Any], bool]:
    parsed = database_url(url)
    said = parsed.query.get("pgbouncer", "false")
    answer = said.lower() if isinstance(said, str) else ""
    if answer not in _YES | _NO:
        raise InvalidSettings("pgbouncer in the database URL is either true or false")
    is_pooled = pooled_by_pgbouncer or answer in _YES
    # libpq's fallback: PGAPPNAME and the URL go first. PgBouncer accepts it, and no `options`.
    arguments: dict[str, Any] = {"fallback_application_name": "ledger"}
    if is_pooled:
        # A statement prepared through one server connection is unknown to the next.
        arguments["prepare_threshold"] = None
    options = {
        "pool_pre_ping": True,
        # Errors and logs would otherwise show users' ids, prompts' attributes and costs.
        "hide_parameters": True,
        "connect_args": arguments,
    }
    return parsed.difference_update_query(["pgbouncer"]), options, is_pooled
