"""Which of a database's errors become the ledger's, and how those are handed on."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest

from ledger import RawRowsGone, TooManyBuckets, TooManyRuns
from ledger.errors import (
    BudgetExceeded,
    ConflictingRecord,
    ExportFailed,
    LedgerError,
    SchemaNotReady,
    translate,
)
from ledger.records.report import WriteReport

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
COMPOSED = (
    BudgetExceeded("run-1", Decimal(5), Decimal("7.5")),
    ConflictingRecord("request 'r-1'", ["cost_usd"], "use another"),
    ExportFailed("usage.csv", "no room"),
    RawRowsGone(timedelta(minutes=1), MARCH, MARCH),
    TooManyBuckets(9, 5, "ask for less"),
    TooManyRuns("run-1", 20, 10),
)
"""Errors that make their message of something else."""


def kinds(kind: type[LedgerError] = LedgerError) -> Iterator[type[LedgerError]]:
    """Every error of the ledger."""
    yield kind
    for subclass in kind.__subclasses__():
        yield from kinds(subclass)


def raised(kind: type[LedgerError]) -> LedgerError:
    return next((error for error in COMPOSED if type(error) is kind), None) or kind("It broke")


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.UndefinedTable('relation "ledger.llm_requests" does not exist'),
        psycopg.errors.UndefinedTable("Relation »ledger.llm_requests« existiert nicht"),
        psycopg.errors.UndefinedFunction("function ledger.raw_from() does not exist"),
        psycopg.errors.InvalidSchemaName('schema "ledger" does not exist'),
        psycopg.errors.UndefinedColumn("column llm_requests.agent_id does not exist"),
    ],
    ids=str,
)
def test_what_the_ledger_lacks_says_to_upgrade_it(error: psycopg.Error) -> None:
    translated = translate(error)
    assert isinstance(translated, SchemaNotReady)
    assert "ledger db upgrade" in str(translated)
    assert str(error) in str(translated)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.UndefinedTable('relation "invoices" does not exist'),
        psycopg.errors.UndefinedTable('relation "myledger.invoices" does not exist'),
        psycopg.errors.UndefinedTable('relation "pg_temp.llm_requests_stage" does not exist'),
        psycopg.errors.UndefinedFunction("operator does not exist: uuid = text"),
        psycopg.errors.UndefinedFunction("function approx_percentile(integer) does not exist"),
    ],
    ids=str,
)
def test_what_something_else_lacks_is_not_told_as_a_missing_ledger(error: psycopg.Error) -> None:
    assert translate(error) is None


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copied", "copied deeply", "pickled"],
)
def test_every_error_is_handed_on_as_it_is(again: Callable[[LedgerError], LedgerError]) -> None:
    for kind in kinds():
        error = raised(kind)
        error.add_note("a note")
        error.report = WriteReport(inserted=1)
        handed_on = again(error)
        assert handed_on is not error
        assert type(handed_on) is kind
        assert str(handed_on) == str(error)
        assert vars(handed_on) == vars(error)
