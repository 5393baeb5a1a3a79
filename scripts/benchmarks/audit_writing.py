"""What the chain costs those who record runs: their rate against that of a table without one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event

from ledger.ddl.execution_appending import SENT
from ledger.engine import engine as connect
from ledger.repositories.audit import Audit
from scripts.benchmarks.audit_load import APPEND, BATCH, PROJECTS, Runs, in_batches, sent
from scripts.benchmarks.by_hand import by_hand
from scripts.benchmarks.measure import Figure, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg
    from sqlalchemy import Engine

    _Given = Callable[[list[dict[str, Any]]], list[Any]]

ROWS, ROUNDS = 4 * BATCH, 7
SHARE: Final = 0.6
"""Of the rate of a table without a chain."""

_CHAIN: Final = ("sequence", "hash_version", "previous_hash", "hash", "salt", "payload_digests")
_NAMES: Final = ", ".join(SENT)
_TWIN: Final = (
    "CREATE TABLE public.bench_runs (LIKE ledger.execution_ledger INCLUDING ALL)",
    (
        f"ALTER TABLE public.bench_runs {', '.join(f'DROP COLUMN {name}' for name in _CHAIN)},"
        " ALTER COLUMN recorded_at SET DEFAULT clock_timestamp(),"
        " ADD FOREIGN KEY (project_id) REFERENCES ledger.projects ON DELETE RESTRICT,"
        " ADD FOREIGN KEY (user_id) REFERENCES ledger.users ON DELETE RESTRICT"
    ),
    f"INSERT INTO public.bench_runs ({_NAMES}) SELECT {_NAMES} FROM ledger.execution_ledger",  # noqa: S608 - names of ours
    "VACUUM ANALYZE public.bench_runs",
)
_TYPED: Final = """
SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ')
FROM pg_attribute
WHERE attrelid = 'public.bench_runs'::regclass AND attname = ANY (%s)"""
_INTO_TWIN: Final = """
CREATE FUNCTION public.bench_append(projects uuid[], executions json) RETURNS bigint
LANGUAGE plpgsql AS $function$
DECLARE
  appended bigint;
BEGIN
  {insert};
  GET DIAGNOSTICS appended = ROW_COUNT;
  RETURN appended;
END
$function$"""


def rates(ours: float, baseline: float) -> str:
    """Both, and how many times the other ours is."""
    return f"{ours:,.0f} against {baseline:,.0f} rows/s: {ours / baseline:.2f}"


def ratio(name: str, ours: float, baseline: float, target: float) -> Figure:
    """Rates of rows, ours and the one of which it is to be at least a share."""
    return Figure(
        name=name,
        measured=rates(ours, baseline),
        target=f"{target}",
        holds=ours >= target * baseline,
    )


def figures(engine: Engine) -> Iterator[Figure]:
    """Batches of a thousand, of all projects, into tables that have the same runs already."""
    runs = Runs("ingest", PROJECTS)
    begun = datetime.now(UTC) - timedelta(hours=2)
    plain = connect(engine.url)
    event.listen(plain, "before_cursor_execute", _into_twin, retval=True)
    with by_hand(engine) as connection:
        insert = _make_twin(connection)

        def send(statement: str, texts: list[str], *before: object) -> None:
            for text in texts:
                connection.execute(statement.encode(), [*before, text])

        record, record_plainly = Audit(engine).record_executions, Audit(plain).record_executions
        # What each way is given is made before its time is taken.
        ways: dict[str, tuple[_Given, Callable[[Any], object]]] = {
            "recorded": (list, lambda given: record(given, batch_size=BATCH)),
            "recorded plainly": (list, lambda given: record_plainly(given, batch_size=BATCH)),
            "appended": (_texts, lambda given: send(APPEND, given, list(PROJECTS))),
            "inserted": (_texts, lambda given: send(insert, given)),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, (made, write) in ways.items():
                given = made(list(runs.draw(ROWS, first=begun, step=timedelta(milliseconds=20))))
                times[way].append(seconds(partial(write, given)))
        (plain_rows,) = connection.execute("SELECT count(*) FROM public.bench_runs").fetchall()[0]
        (chain_rows,) = connection.execute(
            "SELECT count(*) FROM ledger.execution_ledger"
        ).fetchall()[0]
        assert plain_rows == chain_rows, "one of the ways did not write what it was given"
        connection.execute("DROP TABLE public.bench_runs")
    plain.dispose()
    rate = {way: ROWS / median(took) for way, took in times.items()}
    yield ratio(
        "record_executions against the same without a chain",
        rate["recorded"],
        rate["recorded plainly"],
        SHARE,
    )
    yield ratio(
        "append_executions alone against INSERT ... SELECT without a chain",
        rate["appended"],
        rate["inserted"],
        SHARE,
    )


def _texts(runs: list[dict[str, Any]]) -> list[str]:
    return [sent(batch) for batch in in_batches(runs)]


def _make_twin(connection: psycopg.Connection[Any]) -> str:
    """A table with the same runs and neither chain nor triggers; the INSERT of a JSON text."""
    for statement in _TWIN:
        connection.execute(statement.encode())
    ((typed,),) = connection.execute(_TYPED, [list(SENT)]).fetchall()
    insert = (
        f"INSERT INTO public.bench_runs ({_NAMES}) SELECT {_NAMES}"  # noqa: S608 - names of ours
        f" FROM json_to_recordset({{}}::json) AS sent({typed})"
    )
    connection.execute(_INTO_TWIN.format(insert=insert.format("executions")).encode())
    return insert.format("%s")


def _into_twin(  # noqa: PLR0913, PLR0917 - what SQLAlchemy calls it with
    connection: object,  # noqa: ARG001
    cursor: object,  # noqa: ARG001
    statement: str,
    parameters: object,
    context: object,  # noqa: ARG001
    executemany: bool,  # noqa: ARG001, FBT001
) -> tuple[str, object]:
    """Has whoever appends to the ledger insert into its twin: all else is the same Python."""
    return statement.replace("ledger.append_executions(", "public.bench_append("), parameters
