"""Sums that are kept by deltas: appended by each insert, folded now and then, read as both.

An insert only appends: no upsert, so no order of locks to get wrong, no row that all writers
update, and nobody waits for somebody's open transaction. Folding takes deltas and adds them
up in one statement: two would show readers the same calls twice or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.ddl import row_policies
from ledger.ddl.aggregates import EPOCH
from ledger.ddl.facts import Fact, TableIs, TriggerIs, routine_facts
from ledger.ddl.objects import Routine, RowPolicy
from ledger.ddl.routines import create_routine, drop_routine, make_routine
from ledger.ddl.search_path import FIXED
from ledger.ddl.steps import Step, seconds

if TYPE_CHECKING:
    from ledger.ddl.objects import Fold, RunningSums

MOST_FOLDED = 200_000
"""Deltas that one statement takes, so that a backlog is not one transaction."""


def create(target: RunningSums) -> list[Step]:
    """Make the tables, have deltas appended, and sum the rows that were there before."""
    return [
        *(Step(sql=sql) for statements in _tables(target).values() for sql in statements),
        *(step for policy in _policies(target) for step in row_policies.create(policy)),
        *make_routine(_append(target)),
        Step(sql=_trigger(target)),
        create_routine(_fold(target)),
        Step(sql=f"INSERT INTO ledger.{target.name} {summed(target, f'ledger.{target.table}')}"),
    ]


def drop(target: RunningSums) -> list[Step]:
    """Take all of it away: the rows themselves say what it summed."""
    return [
        Step(sql=f"DROP TRIGGER IF EXISTS {target.trigger} ON ledger.{target.table}"),
        drop_routine(_fold(target).name),
        drop_routine(_append(target).name),
        *(Step(sql=f"DROP TABLE IF EXISTS ledger.{name}") for name in _tables(target)),
    ]


def facts(target: RunningSums) -> list[Fact]:
    """Tables, trigger and routines are as they should be."""
    return [
        *(
            TableIs(name=name, statements=made, has_policies=target.rule is not None)
            for name, made in _tables(target).items()
        ),
        *(fact for policy in _policies(target) for fact in row_policies.facts(policy)),
        *(fact for routine in routines(target) for fact in routine_facts(routine)),
        # Not ALWAYS: a replica's or a restore's replay brings the deltas, too.
        TriggerIs(table=target.table, name=target.trigger, statement=_trigger(target), enabled="O"),
    ]


def table_names(target: RunningSums) -> list[str]:
    """The deltas, and what they are folded into."""
    return [target.name, *(fold.name for fold in target.folds)]


def routines(target: RunningSums) -> tuple[Routine, Routine]:
    """What appends the deltas, and what folds them."""
    return _append(target), _fold(target)


def _policies(target: RunningSums) -> list[RowPolicy]:
    if target.rule is None:
        return []
    return [RowPolicy(name=name, rule=target.rule) for name in table_names(target)]


def _tables(target: RunningSums) -> dict[str, tuple[str, ...]]:
    types = dict(target.keys)
    measures = {name: kind for name, kind, _ in target.measures}
    columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in {**types, **measures}.items())
    deltas = (
        (
            f"CREATE TABLE IF NOT EXISTS ledger.{target.name}"
            f" (hour timestamptz NOT NULL, {columns})"
            # Rows that come and go: what is dead is read with what is not.
            " WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0)"
        ),
        f"CREATE INDEX IF NOT EXISTS {target.name}_idx ON ledger.{target.name} (hour)",
    )
    tables: dict[str, tuple[str, ...]] = {target.name: deltas}
    for fold in target.folds:
        keys = {name: types.get(name, "smallint") for name in keys_of(fold)}
        sums = {name: measures.get(name, "bigint") for name in measures_of(fold)}
        columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in {**keys, **sums}.items())
        tables[fold.name] = (
            (
                f"CREATE TABLE IF NOT EXISTS ledger.{fold.name} (bucket timestamptz NOT NULL,"
                f" {columns}, CONSTRAINT {fold.name}_pkey PRIMARY KEY ({_primary_key(fold)}))"
            ),
        )
        tables[fold.name] += tuple(
            f"CREATE INDEX IF NOT EXISTS {fold.name}_{key}_idx"
            f" ON ledger.{fold.name} ({key}, bucket)"
            for key in fold.found_by
        )
    return tables


def keys_of(fold: Fold) -> tuple[str, ...]:
    """What its rows are kept apart by, beside the bucket."""
    return fold.keys if fold.element is None else (*fold.keys, "bin")


def _primary_key(fold: Fold) -> str:
    leading = () if fold.led_by is None else (fold.led_by,)
    return ", ".join((*leading, "bucket", *(key for key in keys_of(fold) if key != fold.led_by)))


def measures_of(fold: Fold) -> tuple[str, ...]:
    """What its rows add up."""
    return fold.measures if fold.element is None else (fold.counted,)


_EXTREMES: Final = {"min": "least", "max": "greatest"}


def merging(target: RunningSums, fold: Fold) -> dict[str, str]:
    """The aggregate that puts together several values of each measure: sum, min or max."""
    made = {name: aggregate.partition("(")[0] for name, _, aggregate in target.measures}
    return {
        name: kind if (kind := made.get(name, "sum")) in _EXTREMES else "sum"
        for name in measures_of(fold)
    }


def summed(target: RunningSums, rows: str) -> str:
    """A SELECT of the sums of some rows of the table, as deltas; ``rows`` names a relation."""
    keys = ", ".join(name for name, _ in target.keys)
    measures = ", ".join(aggregate for _, _, aggregate in target.measures)
    contributions = target.contributions.replace("FROM inserted", f"FROM {rows}")
    return (
        f"SELECT date_bin('1 hour', moment, {EPOCH}), {keys}, {measures}\n"
        f"FROM ({contributions}) AS contributed GROUP BY 1, {keys}"
    )


def _append(target: RunningSums) -> Routine:
    """Appends what an insert adds; as the owner, so that a writer needs no right on the sums."""
    return Routine(
        name=f"append_{target.name}",
        arguments="",
        definition=f"""RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
{FIXED} AS $function$
BEGIN
  INSERT INTO ledger.{target.name}
  {summed(target, "inserted")};
  RETURN NULL;
END
$function$""",
    )


def _trigger(target: RunningSums) -> str:
    return (
        f"CREATE OR REPLACE TRIGGER {target.trigger} AFTER INSERT"
        f" ON ledger.{target.table} REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT"
        f" EXECUTE FUNCTION ledger.{_append(target).name}()"
    )


def _fold(target: RunningSums) -> Routine:
    """Folds some deltas and says how many; none where another session is at it.

    In the order of keys, though there is one folder at a time: a fold into a table that
    somebody repairs by hand must not deadlock with him.
    """
    folds = ",\n".join(
        f"folded_{number} AS (\n{_folding(target, fold)})"
        for number, fold in enumerate(target.folds)
    )
    return Routine(
        name=f"fold_{target.name}",
        arguments="",
        definition=f"""RETURNS integer LANGUAGE plpgsql
{FIXED} AS $function$
DECLARE
  taken_count integer;
BEGIN
  IF NOT pg_try_advisory_xact_lock('ledger.{target.name}'::regclass::oid::bigint) THEN
    RETURN 0;
  END IF;
  WITH taken AS MATERIALIZED (
    DELETE FROM ledger.{target.name} WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM ledger.{target.name} LIMIT {MOST_FOLDED}))
    RETURNING *),
{folds}
  SELECT count(*) INTO taken_count FROM taken;
  RETURN taken_count;
END
$function$""",
    )


def folded(target: RunningSums, fold: Fold, deltas: str) -> str:
    """A SELECT of what deltas come to, as rows of the fold; ``deltas`` names a relation."""
    bucket = f"date_bin('{seconds(fold.bucket)} seconds', hour, {EPOCH})"
    if fold.element is None:
        rows = deltas
        sums = [f"{kind}({name})" for name, kind in merging(target, fold).items()]
    else:
        rows, sums = f"{deltas}, unnest({fold.element}) AS bin", ["count(*)"]
    keys = ", ".join(keys_of(fold))
    return f"SELECT {bucket}, {keys}, {', '.join(sums)}\n  FROM {rows}\n  GROUP BY 1, {keys}"


def _folding(target: RunningSums, fold: Fold) -> str:
    """The statement that adds what was taken to one table."""
    keys, measures = ", ".join(keys_of(fold)), merging(target, fold)
    added = ", ".join(
        f"{name} = total.{name} + excluded.{name}"
        if kind == "sum"
        else f"{name} = {_EXTREMES[kind]}(total.{name}, excluded.{name})"
        for name, kind in measures.items()
    )
    return (
        f"  INSERT INTO ledger.{fold.name} AS total (bucket, {keys}, {', '.join(measures)})\n"
        f"  {folded(target, fold, 'taken')} ORDER BY 1, {keys}\n"
        f"  ON CONFLICT (bucket, {keys}) DO UPDATE SET {added}"
    )
