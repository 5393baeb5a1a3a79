"""Alembic operations for the ledger's objects: `op.create_rollup(...)`, `op.drop_rollup(...)`.

An operation holds the object and what was there before; its reverse, its diff and its text in
a generated revision follow from the pair. The storage that carries it out comes from the
migration context's options, so that a revision says only what, online and offline.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import renderers
from alembic.operations import MigrateOperation, Operations

from ledger.ddl import common, postgres, timescale
from ledger.ddl.losses import refuse_or_foresee
from ledger.ddl.objects import (
    Columnstore,
    CoveringIndex,
    DatabaseObject,
    LatencyFunctions,
    Refresh,
    Retention,
    Rollup,
    Routine,
    TimeSeries,
    View,
)
from ledger.ddl.steps import Step, block, literal, run
from ledger.settings import Percentiles, Storage

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.runtime.migration import MigrationContext

RENDERERS: dict[Storage, ModuleType] = {Storage.TIMESCALE: timescale, Storage.POSTGRES: postgres}

VERBS: dict[type[Any], tuple[str, str]] = {
    Routine: ("create_routine", "drop_routine"),
    LatencyFunctions: ("create_latency_functions", "drop_latency_functions"),
    TimeSeries: ("create_time_series", "drop_time_series"),
    CoveringIndex: ("create_covering_index", "drop_covering_index"),
    Rollup: ("create_rollup", "drop_rollup"),
    Refresh: ("set_refresh", "drop_refresh"),
    Columnstore: ("set_columnstore", "drop_columnstore"),
    Retention: ("set_retention", "drop_retention"),
    View: ("create_view", "drop_view"),
}


class ChangeObject(MigrateOperation):
    """One object as it is to be, and as it was; None where there is or was none."""

    def __init__(self, wanted: DatabaseObject | None, found: DatabaseObject | None = None) -> None:
        self.wanted, self.found = wanted, found

    def reverse(self) -> ChangeObject:
        """The operation that takes this one back."""
        return type(self)(self.found, self.wanted)

    def to_diff_tuple(self) -> tuple[str, DatabaseObject]:
        """(verb, object), as alembic's comparisons are given."""
        verb, target = self.verb_and_object()
        return verb, target

    def verb_and_object(self) -> tuple[str, DatabaseObject]:
        """The operation's name in a revision, and what it is about."""
        if self.wanted is not None:
            return VERBS[type(self.wanted)][0], self.wanted
        assert self.found is not None, "an operation makes or drops something"
        return VERBS[type(self.found)][1], self.found


def storage_of(context: MigrationContext) -> tuple[Storage, Percentiles]:
    """The storage and encoding that the context was configured with."""
    options = context.opts
    return Storage(options["ledger_storage"]), Percentiles(options["ledger_percentiles"])


def _is_loss_allowed(context: MigrationContext, name: str) -> bool:
    return name in context.opts.get("ledger_allowed_losses", ())


@Operations.implementation_for(ChangeObject)
def _change(operations: Operations, operation: ChangeObject) -> None:
    context = operations.get_context()
    storage, encoding = storage_of(context)
    renderer = RENDERERS[storage]
    if operation.wanted is not None:
        run(context, renderer.create(operation.wanted, encoding))
        return
    found = operation.found
    if isinstance(found, Rollup):
        allowed = _is_loss_allowed(context, found.name)
        refuse_or_foresee(context, common.refuse_rollup_loss(found, allowed=allowed))
    run(context, renderer.drop(found, encoding))


def _creates(kind: type[Any], verb: str) -> classmethod[Any, Any, None]:
    def create(cls: type[Any], /, operations: Operations, name: str, **described: object) -> None:
        operations.invoke(cls(kind(name=name, **described)))

    create.__name__ = verb  # alembic writes its proxy from the name
    return classmethod(create)


def _drops(kind: type[Any], verb: str) -> classmethod[Any, Any, None]:
    def drop(cls: type[Any], /, operations: Operations, name: str, **described: object) -> None:
        # What dropping does not need may be left out; only reversing needs the whole.
        unsaid = {
            field.name: None
            for field in fields(kind)
            if field.name != "name" and field.default is MISSING
        }
        operations.invoke(cls(None, kind(name=name, **unsaid | described)))

    drop.__name__ = verb
    return classmethod(drop)


def _register() -> None:
    for kind, (create, drop) in VERBS.items():
        # Alembic looks a verb up on the class that registers it, so the verbs go on the class.
        setattr(ChangeObject, create, _creates(kind, create))
        setattr(ChangeObject, drop, _drops(kind, drop))
        Operations.register_operation(create)(ChangeObject)
        Operations.register_operation(drop)(ChangeObject)


_register()


@Operations.register_operation("record_installation")
class RecordInstallation(MigrateOperation):
    """Make the extensions and write down which storage and encoding this database has."""

    def __init__(self, bins_version: int) -> None:
        self.bins_version = bins_version

    @classmethod
    def record_installation(cls, operations: Operations, *, bins_version: int) -> None:
        """Called by the first revision, once the table exists."""
        operations.invoke(cls(bins_version))


@Operations.implementation_for(RecordInstallation)
def _record(operations: Operations, operation: RecordInstallation) -> None:
    context = operations.get_context()
    storage, encoding = storage_of(context)
    extensions = []
    if storage is Storage.TIMESCALE:
        extensions.append("timescaledb")
    if encoding is Percentiles.UDDSKETCH:
        extensions.append("timescaledb_toolkit")
    run(
        context,
        [
            # Without a schema they go where the search_path begins: for an owner named ledger
            # that is our schema, where no other role finds time_bucket or uddsketch.
            *(
                Step(sql=f"CREATE EXTENSION IF NOT EXISTS {name} SCHEMA public")
                for name in extensions
            ),
            Step(
                sql="INSERT INTO ledger.installation (storage, percentiles, bins_version) VALUES"
                f" ({literal(storage)}, {literal(encoding)}, {operation.bins_version})"
            ),
        ],
    )


@Operations.register_operation("drop_ledger_table")
class DropLedgerTable(MigrateOperation):
    """Drop a table of the ledger, unless it holds rows whose loss was not allowed by name."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def drop_ledger_table(cls, operations: Operations, name: str) -> None:
        """The downgrade's last step for a table."""
        operations.invoke(cls(name))


@Operations.implementation_for(DropLedgerTable)
def _drop_table(operations: Operations, operation: DropLedgerTable) -> None:
    context = operations.get_context()
    allowed = _is_loss_allowed(context, operation.name)
    # Else a row that is committed between the look and the drop is lost.
    run(context, [Step(sql=f"LOCK TABLE ledger.{operation.name} IN ACCESS EXCLUSIVE MODE")])
    refuse_or_foresee(context, common.refuse_loss(operation.name, allowed=allowed))
    run(context, [Step(sql=f"DROP TABLE ledger.{operation.name}")])


@renderers.dispatch_for(ChangeObject)
def _render(context: AutogenContext, operation: ChangeObject) -> str:
    """The operation as a line of a generated revision."""
    context.imports.add("from datetime import timedelta")
    verb, target = operation.verb_and_object()
    described = [
        f"{field.name}={_text(getattr(target, field.name))}"
        for field in fields(target)  # type: ignore[arg-type]  # every object is a dataclass
        if field.name != "name"
        and (field.default is MISSING or getattr(target, field.name) != field.default)
    ]
    return f"op.{verb}({', '.join([repr(target.name), *described])})"


def _text(value: object) -> str:
    return repr(value).replace("datetime.timedelta", "timedelta")


def guard(storage: Storage, encoding: Percentiles) -> str:
    """What an offline script begins with, so that it fails on the wrong server at once."""
    wanted = [
        name
        for name, is_wanted in (
            ("timescaledb", storage is Storage.TIMESCALE),
            ("timescaledb_toolkit", encoding is Percentiles.UDDSKETCH),
        )
        if is_wanted
    ]
    checks = "\n".join(
        f"""  IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = '{name}') THEN
    RAISE EXCEPTION 'this script was written for a server with {name}, which this one lacks';
  END IF;"""
        for name in wanted
    )
    if storage is Storage.TIMESCALE:
        checks += """
  IF NOT EXISTS (SELECT FROM pg_settings WHERE name LIKE 'timescaledb.%') THEN
    RAISE EXCEPTION 'this script needs timescaledb in shared_preload_libraries';
  END IF;"""
    return block(
        f"""BEGIN
{checks}
  -- Two IFs: one condition would be parsed whole, and the table is not there at first.
  IF to_regclass('ledger.installation') IS NOT NULL THEN
    IF EXISTS (SELECT FROM ledger.installation
        WHERE (storage, percentiles) <> ({literal(storage)}, {literal(encoding)})) THEN
      RAISE EXCEPTION 'this script is for {storage} with {encoding}; the database has another';
    END IF;
  END IF;
END"""
    )
