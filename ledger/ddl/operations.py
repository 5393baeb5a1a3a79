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

from ledger.ddl import postgres, timescale
from ledger.ddl.losses import refuse_or_foresee, refuse_rollup_loss
from ledger.ddl.objects import (
    AppendOnly,
    Columnstore,
    ConcurrentIndex,
    CoveringIndex,
    DatabaseObject,
    ExecutionChain,
    KeptRows,
    LatencyFunctions,
    Refresh,
    Retention,
    Rollup,
    Routine,
    RowPolicy,
    RunningSums,
    TimeSeries,
    View,
)
from ledger.ddl.rendering import Rendering
from ledger.ddl.steps import run
from ledger.settings import Storage

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
    AppendOnly: ("make_append_only", "drop_append_only"),
    KeptRows: ("keep_rows", "release_rows"),
    ExecutionChain: ("create_execution_chain", "drop_execution_chain"),
    RowPolicy: ("create_row_policy", "drop_row_policy"),
    RunningSums: ("create_running_sums", "drop_running_sums"),
    ConcurrentIndex: ("create_concurrent_index", "drop_concurrent_index"),
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


def storage_of(context: MigrationContext) -> tuple[Storage, Rendering]:
    """The storage that the context was configured with, and how SQL is rendered for it."""
    rendering = context.opts["ledger_rendering"]
    assert isinstance(rendering, Rendering), "env.py configures it"
    return Storage(context.opts["ledger_storage"]), rendering


def is_loss_allowed(context: MigrationContext, name: str) -> bool:
    """Whether whoever downgrades has said that these rows may go."""
    return name in context.opts.get("ledger_allowed_losses", ())


@Operations.implementation_for(ChangeObject)
def _change(operations: Operations, operation: ChangeObject) -> None:
    context = operations.get_context()
    storage, rendering = storage_of(context)
    renderer = RENDERERS[storage]
    if operation.wanted is not None:
        run(context, renderer.create(operation.wanted, rendering))
        return
    found = operation.found
    if isinstance(found, Rollup):
        allowed = is_loss_allowed(context, found.name)
        refuse_or_foresee(context, refuse_rollup_loss(found, allowed=allowed))
    run(context, renderer.drop(found, rendering))


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


@renderers.dispatch_for(ChangeObject)
def _render(context: AutogenContext, operation: ChangeObject) -> str:
    """The operation as a line of a generated revision."""
    context.imports.add("from datetime import timedelta")
    verb, target = operation.verb_and_object()
    if isinstance(target, RunningSums):
        context.imports.add("from ledger.ddl.objects import Fold")
    described = [
        f"{field.name}={_text(getattr(target, field.name))}"
        for field in fields(target)  # type: ignore[arg-type]  # every object is a dataclass
        if field.name != "name"
        and (field.default is MISSING or getattr(target, field.name) != field.default)
    ]
    return f"op.{verb}({', '.join([repr(target.name), *described])})"


def _text(value: object) -> str:
    return repr(value).replace("datetime.timedelta", "timedelta")
