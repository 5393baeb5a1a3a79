"""Which of a database's errors become the ledger's."""

from __future__ import annotations

import psycopg
import pytest

from ledger.errors import SchemaNotReady, translate


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
