"""Operations as values: their reverse, their diff, and their text in a revision."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations
from alembic.runtime.migration import MigrationContext

from ledger.ddl.losses import refuse_losses
from ledger.ddl.objects import AppendOnly, DatabaseObject, Fold, KeptRows, Retention, View
from ledger.ddl.operations import VERBS, ChangeObject
from ledger.ddl.steps import Step, interval, literal, run
from ledger.models.base import Base
from tests.golden import objects

VIEW = View(name="v", query="SELECT 1 AS x")


class Recorder(Operations):
    """An `op` that only writes down what it is told to do."""

    def __init__(self) -> None:
        super().__init__(MigrationContext.configure(dialect_name="postgresql"))
        self.invoked: list[MigrateOperation] = []

    def invoke(self, operation: Any) -> Any:
        self.invoked.append(operation)


def rendered(operation: ChangeObject) -> str:
    context = AutogenContext(MigrationContext.configure(dialect_name="postgresql"))
    text = renderers.dispatch(operation)(context, operation)
    assert "from datetime import timedelta" in context.imports
    needs_fold = "Fold(" in text
    assert ("from ledger.ddl.objects import Fold" in context.imports) is needs_fold
    return str(text)


def read_back(line: str) -> ChangeObject:
    op = Recorder()
    exec(line, {"op": op, "timedelta": timedelta, "Fold": Fold})
    [operation] = op.invoked
    assert isinstance(operation, ChangeObject)
    return operation


def named(target: DatabaseObject) -> str:
    return f"{type(target).__name__}-{target.name}"


@pytest.mark.parametrize("declared", objects(), ids=named)
def test_the_text_of_an_operation_makes_the_same_operation(declared: DatabaseObject) -> None:
    made = read_back(rendered(ChangeObject(declared)))
    dropped = read_back(rendered(ChangeObject(None, declared)))

    assert (made.wanted, made.found) == (declared, None)
    assert (dropped.wanted, dropped.found) == (None, declared)


def test_every_kind_of_object_is_among_them() -> None:
    assert {type(target) for target in objects()} == set(VERBS)


def test_what_append_only_rows_refer_to_is_append_only_itself_or_kept() -> None:
    append_only = {target.name for target in objects() if isinstance(target, AppendOnly)}
    referring = {
        (key.column.table.name, name, key.parent.name)
        for name in append_only
        for key in Base.metadata.tables[f"ledger.{name}"].foreign_keys
    }
    kept = {
        (target.name, *pair)
        for target in objects()
        if isinstance(target, KeptRows)
        for pair in target.referred_to_by
    }
    assert kept == {each for each in referring if each[0] not in append_only}


def test_an_operation_is_taken_back_by_its_reverse() -> None:
    shorter, longer = (Retention(name="r", keep=timedelta(days=days)) for days in (1, 2))
    change = ChangeObject(longer, shorter)

    assert (change.reverse().wanted, change.reverse().found) == (shorter, longer)
    assert ChangeObject(VIEW).reverse().to_diff_tuple() == ("drop_view", VIEW)
    assert ChangeObject(None, VIEW).reverse().to_diff_tuple() == ("create_view", VIEW)


def test_the_diff_of_an_operation_is_its_verb_and_object() -> None:
    assert ChangeObject(VIEW).to_diff_tuple() == ("create_view", VIEW)
    assert ChangeObject(VIEW, VIEW).to_diff_tuple() == ("create_view", VIEW)


def test_a_name_is_enough_to_drop() -> None:
    assert read_back("op.drop_view('v')").found == View(name="v", query=None)  # type: ignore[arg-type]


def written(*steps: Step) -> str:
    script = StringIO()
    run(
        MigrationContext.configure(
            dialect_name="postgresql", opts={"as_sql": True, "output_buffer": script}
        ),
        steps,
    )
    return script.getvalue()


def test_a_script_runs_what_a_generator_yields() -> None:
    assert "SELECT 'x' \\gexec" in written(Step(sql="SELECT 'x'", is_generator=True))


def test_a_script_leaves_its_transaction_for_what_cannot_be_in_one() -> None:
    said = written(Step(sql="SELECT 1"), Step(sql="VACUUM", runs_outside_transaction=True))
    assert said.index("SELECT 1;") < said.index("COMMIT;") < said.index("VACUUM;")


def test_literals_and_intervals_are_sql() -> None:
    assert literal("it's") == "'it''s'"
    assert interval(timedelta(days=7)) == "INTERVAL '7 days'"
    assert interval(timedelta(minutes=1)) == "INTERVAL '0 days 60 seconds'"


def test_only_a_downgrade_is_asked_what_it_loses() -> None:
    def upgrade(_revision: object, _context: object) -> list[object]:
        raise AssertionError("its steps are not asked for")

    refuse_losses(MigrationContext.configure(dialect_name="postgresql", opts={"fn": upgrade}))
