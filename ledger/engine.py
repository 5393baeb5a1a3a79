"""Connections to PostgreSQL: the forms of a URL, engines and their pools, a driver's errors."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import create_async_engine

from ledger.errors import DatabaseUnavailable, InvalidSettings, translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

DRIVER: Final = "postgresql+psycopg"

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
    cleaned, options = _options(database_url(url), pooled_by_pgbouncer=pooled_by_pgbouncer)
    return create_engine(cleaned, **options)


def async_engine(url: str | URL, *, pooled_by_pgbouncer: bool = False) -> AsyncEngine:
    """The same engine, awaited."""
    cleaned, options = _options(database_url(url), pooled_by_pgbouncer=pooled_by_pgbouncer)
    return create_async_engine(cleaned, **options)


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


def _options(url: URL, *, pooled_by_pgbouncer: bool) -> tuple[URL, dict[str, Any]]:
    said = url.query.get("pgbouncer", "false")
    answer = said.lower() if isinstance(said, str) else ""
    if answer not in _YES | _NO:
        raise InvalidSettings("pgbouncer in the database URL is either true or false")
    # libpq's fallback: PGAPPNAME and the URL go first. PgBouncer accepts it, and no `options`.
    arguments: dict[str, Any] = {"fallback_application_name": "ledger"}
    if pooled_by_pgbouncer or answer in _YES:
        # A statement prepared through one server connection is unknown to the next.
        arguments["prepare_threshold"] = None
    return url.difference_update_query(["pgbouncer"]), {
        "pool_pre_ping": True,
        # Errors and logs would otherwise show users' ids, prompts' attributes and costs.
        "hide_parameters": True,
        "connect_args": arguments,
    }
