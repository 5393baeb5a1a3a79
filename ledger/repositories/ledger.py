"""A database's ledgers, opened: on engines of our own, in a folder, or on a caller's connection."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy import URL, Engine

from ledger.engine import engine, reading_engine
from ledger.errors import InvalidArgument
from ledger.maintenance import Maintenance
from ledger.records.usage import Charging
from ledger.repositories.audit import Audit
from ledger.repositories.billing import Billing
from ledger.repositories.binding import Bindable
from ledger.repositories.embedding import serve
from ledger.repositories.expected import ANY, Expected
from ledger.repositories.repository import Repository
from ledger.repositories.telemetry import Telemetry
from ledger.repositories.tenancy import Tenancy
from ledger.settings import Settings
from ledger.write.terms import CHARGING, FUTURE_TOLERANCE, Terms, terms_of

Kind = TypeVar("Kind", bound=Repository)


class Ledger:
    """The ledgers of one database.

    Made by ``connect``, ``embedded``, ``from_environment`` or ``bound``; closed by ``close``,
    or at the end of a ``with``.
    """

    telemetry: Telemetry
    billing: Billing
    audit: Audit
    tenancy: Tenancy

    def __init__(  # noqa: PLR0913 - a ledger each
        self,
        *,
        telemetry: Telemetry,
        billing: Billing,
        audit: Audit,
        tenancy: Tenancy,
        engine: Engine | None,
        closing: ExitStack,
    ) -> None:
        self.telemetry, self.billing, self.audit = telemetry, billing, audit
        self.tenancy = tenancy
        self._engine = engine
        self._closing = closing

    @classmethod
    def connect(
        cls,
        url: str | URL,
        read_url: str | URL | None = None,
        *,
        future_tolerance: timedelta = FUTURE_TOLERANCE,
        charging: Charging = CHARGING,
    ) -> Self:
        """The ledgers of the database at ``url``; reads go to ``read_url``, a replica, if given.

        Connects on first use and never migrates: SchemaNotReady then says what to run. Rows
        further ahead of the database's clock than ``future_tolerance`` are rejected.
        ``charging`` says what a credit is worth. Behind PgBouncer add ``?pgbouncer=true`` to
        the URL. Raises InvalidSettings for a URL that is not PostgreSQL's.
        """
        return cls._open(
            url,
            read_url,
            terms=Terms(future_tolerance=future_tolerance, charging=charging),
            closing=ExitStack(),
        )

    @classmethod
    def embedded(
        cls,
        folder: Path | str,
        *,
        future_tolerance: timedelta = FUTURE_TOLERANCE,
        charging: Charging = CHARGING,
    ) -> Self:
        """The ledgers in a folder, on a PostgreSQL of their own that runs while this is open.

        The folder is made, and its schema brought to this version. Needs the extra
        `embedded`; raises EmbeddedUnavailable without it, EmbeddedFailed where PostgreSQL
        does not start.
        """
        with ExitStack() as closing:
            url = serve(folder, closing)
            return cls._open(
                url,
                None,
                terms=Terms(future_tolerance=future_tolerance, charging=charging),
                closing=closing.pop_all(),
            )

    @classmethod
    def from_environment(cls) -> Self:
        """The ledgers of the database that `LEDGER_DATABASE_URL` names, or `.env` does.

        The first use raises StorageMismatch where `LEDGER_STORAGE` or `LEDGER_PERCENTILES`
        say otherwise than the database. Raises InvalidSettings where no database is named.
        """
        settings = Settings.load()
        return cls._open(
            settings.require_database_url(),
            settings.read_url.get_secret_value() if settings.read_url else None,
            terms=terms_of(settings),
            expected=Expected(storage=settings.storage, percentiles=settings.percentiles),
            closing=ExitStack(),
        )

    @classmethod
    def bound(
        cls,
        source: Bindable,
        *,
        future_tolerance: timedelta = FUTURE_TOLERANCE,
        charging: Charging = CHARGING,
    ) -> Self:
        """The ledgers inside the transaction of a Session or a Connection of the caller.

        Nothing is committed; each call runs in a SAVEPOINT, so that one that fails leaves the
        transaction usable. Any PostgreSQL driver of SQLAlchemy serves.

        Reads are planned by that connection's settings. Where ``random_page_cost`` is 4, as for
        spinning disks, a week of one user may be read from the week of all.
        """
        terms = Terms(future_tolerance=future_tolerance, charging=charging)
        return cls._of(source, terms=terms, closing=ExitStack())

    @property
    def maintenance(self) -> Maintenance:
        """What keeps the books current. Raises InvalidArgument on a ledger that is bound."""
        if self._engine is None:
            raise InvalidArgument(
                "maintenance commits, so it needs connections of its own; use Ledger.connect(url)"
            )
        return Maintenance(self._engine)

    def close(self) -> None:
        """Close the connections, and stop an embedded server. A caller's stay open."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @classmethod
    def _open(
        cls,
        url: str | URL,
        read_url: str | URL | None,
        *,
        terms: Terms,
        expected: Expected = ANY,
        closing: ExitStack,
    ) -> Self:
        writing, reading = engine(url), reading_engine(read_url or url)
        closing.callback(writing.dispose)
        closing.callback(reading.dispose)
        return cls._of(writing, reading=reading, expected=expected, terms=terms, closing=closing)

    @classmethod
    def _of(
        cls,
        source: Engine | Bindable,
        *,
        reading: Engine | None = None,
        expected: Expected = ANY,
        terms: Terms,
        closing: ExitStack,
    ) -> Self:
        def made(kind: type[Kind]) -> Kind:
            return kind(source, reading=reading, expected=expected, terms=terms)

        return cls(
            telemetry=made(Telemetry),
            billing=made(Billing),
            audit=made(Audit),
            tenancy=made(Tenancy),
            engine=source if isinstance(source, Engine) else None,
            closing=closing,
        )
