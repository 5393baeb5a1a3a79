"""What is the same on both storages: routines, views, latencies, ordinary tables and indexes."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING

from ledger.ddl import (
    append_only,
    concurrent_indexes,
    execution_chain,
    kept_rows,
    row_policies,
    running_sums,
)
from ledger.ddl.facts import Fact, Holds, RoutineIs, ViewIs, routine_facts
from ledger.ddl.latency_functions import (
    aggregate_facts,
    create_aggregates,
    drop_aggregates,
    latency_routines,
)
from ledger.ddl.objects import (
    AppendOnly,
    ConcurrentIndex,
    ExecutionChain,
    KeptRows,
    LatencyFunctions,
    Routine,
    RowPolicy,
    RunningSums,
    View,
)
from ledger.ddl.routines import create_routine, drop_routine, make_routine
from ledger.ddl.steps import Step, literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ledger.ddl.rendering import Rendering


@singledispatch
def create(target: object, rendering: Rendering) -> list[Step]:
    """The steps that make an object which is the same on both storages."""
    raise TypeError(f"no renderer makes a {type(target).__name__}")


@singledispatch
def drop(target: object, rendering: Rendering) -> list[Step]:
    """The steps that take it away."""
    raise TypeError(f"no renderer drops a {type(target).__name__}")


@singledispatch
def facts(target: object, rendering: Rendering) -> list[Fact]:
    """What can be seen to hold where the object is there."""
    raise TypeError(f"no renderer knows a {type(target).__name__}")


@facts.register(Routine)
def _(target: Routine, rendering: Rendering) -> list[Fact]:
    return routine_facts(target)


@facts.register(LatencyFunctions)
def _(target: LatencyFunctions, rendering: Rendering) -> list[Fact]:
    return [
        Holds(
            query=f"SELECT bins_version = {target.bins_version} FROM ledger.installation",
            otherwise=f"the rollups' latencies are not in bins of version {target.bins_version}",
        ),
        *(RoutineIs(accepted=(routine,)) for routine in latency_routines(rendering)),
        *aggregate_facts(rendering),
    ]


@facts.register(AppendOnly)
def _(target: AppendOnly, rendering: Rendering) -> list[Fact]:
    return append_only.facts(target)


@facts.register(KeptRows)
def _(target: KeptRows, rendering: Rendering) -> list[Fact]:
    return kept_rows.facts(target)


@facts.register(RowPolicy)
def _(target: RowPolicy, rendering: Rendering) -> list[Fact]:
    return row_policies.facts(target)


@facts.register(ExecutionChain)
def _(target: ExecutionChain, rendering: Rendering) -> list[Fact]:
    return execution_chain.facts(target)


@facts.register(RunningSums)
def _(target: RunningSums, rendering: Rendering) -> list[Fact]:
    return running_sums.facts(target)


@facts.register(View)
def _(target: View, rendering: Rendering) -> list[Fact]:
    return [ViewIs(name=target.name, query=target.query, is_barrier=True)]


@create.register(Routine)
def _(target: Routine, rendering: Rendering) -> list[Step]:
    return make_routine(target)


@drop.register(Routine)
def _(target: Routine, rendering: Rendering) -> list[Step]:
    return [drop_routine(target.name)]


@create.register(LatencyFunctions)
def _(target: LatencyFunctions, rendering: Rendering) -> list[Step]:
    return [
        *(create_routine(routine) for routine in latency_routines(rendering)),
        *create_aggregates(rendering),
    ]


@drop.register(LatencyFunctions)
def _(target: LatencyFunctions, rendering: Rendering) -> list[Step]:
    return [
        *drop_aggregates(rendering),
        *(drop_routine(routine.name) for routine in reversed(latency_routines(rendering))),
    ]


@create.register(AppendOnly)
def _(target: AppendOnly, rendering: Rendering) -> list[Step]:
    return append_only.create(target)


@drop.register(AppendOnly)
def _(target: AppendOnly, rendering: Rendering) -> list[Step]:
    return append_only.drop(target)


@create.register(KeptRows)
def _(target: KeptRows, rendering: Rendering) -> list[Step]:
    return kept_rows.create(target)


@drop.register(KeptRows)
def _(target: KeptRows, rendering: Rendering) -> list[Step]:
    return kept_rows.drop(target)


@create.register(RowPolicy)
def _(target: RowPolicy, rendering: Rendering) -> list[Step]:
    return row_policies.create(target)


@drop.register(RowPolicy)
def _(target: RowPolicy, rendering: Rendering) -> list[Step]:
    return row_policies.drop(target)


@create.register(ExecutionChain)
def _(target: ExecutionChain, rendering: Rendering) -> list[Step]:
    return execution_chain.create(target)


@drop.register(ExecutionChain)
def _(target: ExecutionChain, rendering: Rendering) -> list[Step]:
    return execution_chain.drop(target)


@create.register(ConcurrentIndex)
def _(target: ConcurrentIndex, rendering: Rendering) -> list[Step]:
    return concurrent_indexes.create(target)


@drop.register(ConcurrentIndex)
def _(target: ConcurrentIndex, rendering: Rendering) -> list[Step]:
    return concurrent_indexes.drop(target)


@create.register(RunningSums)
def _(target: RunningSums, rendering: Rendering) -> list[Step]:
    return running_sums.create(target)


@drop.register(RunningSums)
def _(target: RunningSums, rendering: Rendering) -> list[Step]:
    return running_sums.drop(target)


@create.register(View)
def _(target: View, rendering: Rendering) -> list[Step]:
    # security_barrier keeps a reader's own functions from being run on other users' rows.
    return [
        Step(
            sql=f"CREATE OR REPLACE VIEW ledger.{target.name} WITH (security_barrier)"
            f" AS {target.query}"
        )
    ]


@drop.register(View)
def _(target: View, rendering: Rendering) -> list[Step]:
    return [drop_view(target.name)]


def drop_view(name: str) -> Step:
    """Drop the view."""
    return Step(sql=f"DROP VIEW IF EXISTS ledger.{name}")


def progress_rows(series: str) -> Iterator[Step]:
    """The row that holds a time series' watermark and horizon."""
    yield Step(
        sql=f"INSERT INTO ledger.rollup_progress (source) VALUES ({literal(series)})"
        " ON CONFLICT DO NOTHING"
    )
