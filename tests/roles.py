"""Database roles of a test's own, which log in as themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Connection, make_url

from ledger.ddl import access
from ledger.engine import engine
from tests.servers import libpq

PASSWORD = "a role's password"
_NUMBERS = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role that can log in to one database."""

    name: str
    url: str

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(libpq(make_url(self.url)), autocommit=True)

    def sql(self, statement: str, **settings: str) -> list[tuple[Any, ...]]:
        """The rows of one statement, in a transaction with these settings (a__b is a.b)."""
        with self.connect() as connection, connection.transaction():
            for name, value in settings.items():
                connection.execute(
                    "SELECT set_config(%s, %s, true)", [name.replace("__", "."), value]
                )
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []


@dataclass(kw_only=True)
class Roles:
    """Makes roles, and drops them with all that they own."""

    url: str
    _made: list[str] = field(default_factory=list)

    @cached_property
    def _owner(self) -> psycopg.Connection[Any]:
        return psycopg.connect(libpq(make_url(self.url)), autocommit=True)

    def create(self, *, suffix: str = "") -> Role:
        """A role that nothing was granted to."""
        name = f"ledger_test_{os.getpid()}_{next(_NUMBERS)}{suffix}"
        self.own(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(name), sql.Literal(PASSWORD)
            )
        )
        self._made.append(name)
        url = make_url(self.url).set(username=name, password=PASSWORD)
        return Role(name=name, url=url.render_as_string(hide_password=False))

    def granted(
        self,
        kind: str,
        users: Sequence[UUID] = (),
        *,
        projects: Sequence[UUID] = (),
        suffix: str = "",
    ) -> Role:
        """A new role that was granted this."""
        role = self.create(suffix=suffix)
        self.grant(role.name, kind, users, projects=projects)
        return role

    def grant(
        self, name: str, kind: str, users: Sequence[UUID] = (), *, projects: Sequence[UUID] = ()
    ) -> None:
        with self._administration() as connection:
            access.grant(connection, name, kind, users, projects=projects)

    def revoke(self, name: str) -> None:
        with self._administration() as connection:
            access.revoke(connection, name)

    def renew(self) -> None:
        """As at the end of an upgrade."""
        with self._administration() as connection:
            access.renew(connection)

    def scopes(self) -> list[tuple[str, str, UUID | None, UUID | None]]:
        with self._administration() as connection:
            return access.scopes(connection)

    @contextmanager
    def _administration(self) -> Iterator[Connection]:
        owner = engine(self.url)
        try:
            with owner.begin() as connection:
                yield connection
        finally:
            owner.dispose()

    def own(self, statement: str | sql.Composed) -> list[tuple[Any, ...]]:
        """The rows of one statement of the owner's, who is a superuser."""
        with self._owner.cursor() as cursor:
            cursor.execute(statement.encode() if isinstance(statement, str) else statement)
            return cursor.fetchall() if cursor.description is not None else []

    def stop_jobs(self) -> None:
        """Or a job that compresses chunks and a change of their privileges fail one another."""
        if self.own("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"):
            self.own("SELECT _timescaledb_functions.stop_background_workers()")

    def drop(self, name: str) -> None:
        self._made.remove(name)
        with self._owner.cursor() as cursor:
            cursor.execute("DELETE FROM ledger.role_scopes WHERE role = %s", [name])
            gone = sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name))
            try:
                cursor.execute(gone)
            except psycopg.errors.DeadlockDetected:
                # With a vacuum, which waits for the rows of pg_class that this changes.
                cursor.execute(gone)


@contextmanager
def roles_of(url: str) -> Iterator[Roles]:
    """Roles in that database, dropped at the end."""
    roles = Roles(url=url)
    try:
        roles.stop_jobs()
        yield roles
    finally:
        for name in list(roles._made):
            roles.drop(name)
        roles._owner.close()
