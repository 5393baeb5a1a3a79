"""What is recorded of erasures is held to its hashes, to the head, and to checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ledger import Ledger
from ledger.ddl.execution_hashing import NO_HASH, erasure_hash_of
from ledger.errors import LedgerError
from ledger.records.checkpoint import Checkpoint
from ledger.records.verification import Fault
from tests.audits import (
    ERASED,
    OF_ERASURE,
    PROJECT,
    audited,
    execution,
)
from tests.ledgers import at_once
from tests.writers import sql, superuser

UNGUARDED = "; ".join(
    f"ALTER TABLE ledger.{table} DISABLE TRIGGER ALL"
    for table in ("execution_ledger", "execution_heads", "execution_erasures")
)
OF_PROJECT = f"project_id = '{PROJECT}'"
LINKED_ANEW = f"""
UPDATE ledger.execution_erasures e SET hash = {erasure_hash_of("e", before=NO_HASH)}
WHERE {OF_PROJECT} AND number = 1;
UPDATE ledger.execution_erasures e SET hash = {erasure_hash_of("e", before="b.hash")}
FROM ledger.execution_erasures b
WHERE e.{OF_PROJECT} AND b.{OF_PROJECT} AND e.number = 2 AND b.number = 1"""
"""What somebody does who knows how both records of erasures are hashed."""
MOVE_HEAD = f"""UPDATE ledger.execution_heads SET (erasures, erasures_hash) = (
  SELECT count(*), coalesce((array_agg(hash ORDER BY number DESC))[1], {NO_HASH})
  FROM ledger.execution_erasures WHERE {OF_PROJECT})
WHERE {OF_PROJECT}"""
FORGET_LAST = f"DELETE FROM ledger.execution_erasures WHERE {OF_PROJECT} AND number = 2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Four runs, of which the third and then the first were erased."""

    url: str
    ledger: Ledger
    taken: Checkpoint
    give_back: str
    """Puts the payloads of the first run back, with their salt."""

    def tamper(self, *statements: str) -> None:
        with superuser(self.url) as connection:
            for statement in (UNGUARDED, *statements):
                connection.execute(statement.encode())

    def fault(self, checkpoint: Checkpoint | None = None) -> Fault | None:
        return self.ledger.audit.verify(PROJECT, checkpoint=checkpoint).first_fault


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    with audited(database_url, *(execution(f"run {n}") for n in (1, 2, 3, 4))) as ledger:
        columns = ", ".join(ERASED)
        [(payloads,)] = sql(
            database_url,
            f"SELECT concat_ws(', ', {', '.join(f'quote_nullable({name})' for name in ERASED)})"
            " FROM ledger.execution_ledger WHERE run_id = 'run 1'",
        )
        for run in (3, 1):
            ledger.audit.erase_payload(f"run {run}", "a request")
        yield Books(
            url=database_url,
            ledger=ledger,
            taken=ledger.audit.checkpoint(),
            give_back=f"UPDATE ledger.execution_ledger SET ({columns}) = ({payloads})"
            f" WHERE run_id = 'run 1'",
        )


def test_erasures_are_numbered_and_the_head_has_the_last(books: Books) -> None:
    found = sql(books.url, "SELECT sequence, number, hash FROM ledger.execution_erasures")
    head = next(head for head in books.taken.heads if head.project_id == PROJECT)

    assert [(sequence, number) for sequence, number, _ in found] == [(3, 1), (1, 2)]
    assert (head.erasures, head.erasures_hash) == (2, found[-1][2])
    assert books.fault(books.taken) is None


def test_a_chain_goes_on_between_erasures(books: Books) -> None:
    books.ledger.audit.record_execution(execution("run 5"))
    books.ledger.audit.erase_payload("run 5", "another request")

    assert books.fault(books.taken) is None
    assert books.fault(books.ledger.audit.checkpoint()) is None


@pytest.mark.parametrize("column", OF_ERASURE)
@pytest.mark.parametrize("number, sequence", [(1, 3), (2, 1)])
def test_a_record_that_was_changed_is_found(
    books: Books, column: str, number: int, sequence: int
) -> None:
    unnumbered = "ALTER TABLE ledger.execution_erasures DROP CONSTRAINT"
    books.tamper(
        f"{unnumbered} execution_erasures_project_id_number_key",
        f"UPDATE ledger.execution_erasures SET {column} = {OF_ERASURE[column]}"
        f" WHERE {OF_PROJECT} AND number = {number}",
    )
    fault = books.fault()

    assert fault is not None
    if (column, number) != ("number", 1):  # two of one number: either is the first
        assert (fault.kind, fault.sequence, fault.run_id) == (
            "changed",
            sequence,
            f"run {sequence}",
        )


def test_records_that_were_written_anew_are_found_by_the_head_and_by_a_checkpoint(
    books: Books,
) -> None:
    books.tamper(f"UPDATE ledger.execution_erasures SET erased_by = 'another'; {LINKED_ANEW}")
    by_head = books.fault()
    assert by_head is not None
    assert "the head is of" in by_head.detail

    books.tamper(MOVE_HEAD)
    assert books.fault() is None, "nothing in the database tells it"
    fault = books.fault(books.taken)
    assert fault is not None
    assert (fault.kind, "written anew" in fault.detail) == ("changed", True)


def test_payloads_that_came_back_are_found_by_the_head_and_by_a_checkpoint(books: Books) -> None:
    books.tamper(FORGET_LAST, books.give_back)
    by_head = books.fault()
    assert by_head is not None
    assert by_head.detail == "records 2 to 2 of erasures are gone"

    books.tamper(MOVE_HEAD)
    assert books.fault() is None, "nothing in the database tells it"
    fault = books.fault(books.taken)
    assert fault is not None
    assert fault.detail == "records 2 to 2 of erasures were there at the checkpoint"


@pytest.mark.parametrize("change", ["erasures = 1", "erasures_hash = sha256('')"])
def test_a_head_that_was_changed_is_found(books: Books, change: str) -> None:
    books.tamper(f"UPDATE ledger.execution_heads SET {change}")
    assert books.fault() is not None


@pytest.mark.parametrize("change", ["(3, sha256(''))", "(1, erasures_hash)", f"(0, {NO_HASH})"])
def test_a_head_moves_on_to_a_record_alone(books: Books, change: str) -> None:
    with superuser(books.url) as connection, pytest.raises(Exception, match="is refused"):
        connection.execute(
            f"UPDATE ledger.execution_heads SET (erasures, erasures_hash) = {change}".encode()
        )


def test_who_erases_cannot_say_when_or_that_another_did(books: Books) -> None:
    [(who, is_now, number)] = sql(
        books.url,
        f"""INSERT INTO ledger.execution_erasures VALUES ('{PROJECT}', 2, 'a request',
          '2001-01-01', 'another', 77, sha256(''))
        RETURNING erased_by, erased_at > now() - interval '1 hour', number""",
    )

    assert (who, is_now, number) == (sql(books.url, "SELECT SESSION_USER")[0][0], True, 3)
    assert books.fault(books.taken) is None


def test_records_of_several_erasures_are_linked_in_one_statement(books: Books) -> None:
    sql(
        books.url,
        f"""INSERT INTO ledger.execution_erasures (project_id, sequence, reason)
        VALUES ('{PROJECT}', 4, 'a request'), ('{PROJECT}', 2, 'a request')""",
    )

    found = books.ledger.audit.verify(PROJECT, checkpoint=books.taken)
    assert (found.is_intact, found.erased) == (True, 4)


FREE = f"""
ALTER TABLE ledger.execution_erasures DROP CONSTRAINT execution_erasures_pkey,
  DROP CONSTRAINT execution_erasures_project_id_number_key,
  DROP CONSTRAINT execution_erasures_chain_check;
ALTER TABLE ledger.execution_heads DROP CONSTRAINT execution_heads_pkey,
  DROP CONSTRAINT execution_heads_position_check;
{
    "; ".join(
        f"ALTER TABLE ledger.{table} ALTER {column} DROP NOT NULL"
        for table, columns in {
            "execution_erasures": (
                "sequence",
                "reason",
                "erased_at",
                "erased_by",
                "number",
                "hash",
            ),
            "execution_heads": ("sequence", "hash", "erasures", "erasures_hash"),
        }.items()
        for column in columns
    )
}"""
"""Lets records and heads hold anything, and be there twice."""


@pytest.mark.parametrize("column", ["sequence", "reason", "erased_at", "number", "hash"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_record_that_lost_a_value_is_found(books: Books, column: str, number: int) -> None:
    books.tamper(
        FREE,
        f"UPDATE ledger.execution_erasures SET {column} = NULL WHERE number = {number}",
        "UPDATE ledger.execution_erasures SET reason = 'forged' WHERE number = 2",
        books.give_back,
    )
    assert books.fault() is not None
    assert books.fault(books.taken) is not None


def test_a_record_that_hides_behind_one_without_a_row_is_found(books: Books) -> None:
    books.tamper(
        FREE,
        "UPDATE ledger.execution_erasures SET sequence = NULL, number = 7 WHERE number = 2",
        books.give_back,
    )
    assert books.fault(books.taken) is not None


@pytest.mark.parametrize("number, sequence", [(1, 3), (2, 1)])
def test_a_record_that_is_there_twice_is_found_where_it_is(
    books: Books, number: int, sequence: int
) -> None:
    books.tamper(
        FREE,
        "INSERT INTO ledger.execution_erasures SELECT * FROM ledger.execution_erasures"
        f" WHERE number = {number}",
    )
    fault = books.fault()

    assert fault is not None
    assert (fault.kind, fault.sequence) == ("changed", sequence)


@pytest.mark.parametrize(
    "change, said",
    [
        ("INSERT INTO {0} SELECT * FROM {0}", "the chain has 2 heads"),
        ("UPDATE {0} SET sequence = NULL", "the head of the chain says nothing"),
        ("UPDATE {0} SET hash = NULL", "the head of the chain"),
        ("UPDATE {0} SET erasures = NULL, erasures_hash = NULL", "the head is of"),
        ("UPDATE {0} SET erasures = -1", "the head is of"),
        ("UPDATE {0} SET sequence = -1", "the chain ended at row -1"),
    ],
)
def test_a_head_that_says_nothing_is_found(books: Books, change: str, said: str) -> None:
    books.tamper(FREE, change.format("ledger.execution_heads"))

    fault = books.fault()
    assert fault is not None
    assert said in fault.detail
    assert not books.ledger.audit.verify_all().is_intact
    with pytest.raises(LedgerError, match=r"heads|audit verify"):
        books.ledger.audit.checkpoint()


def test_a_head_that_says_nothing_of_no_erasures_is_found(database_url: str) -> None:
    with audited(database_url, execution()) as ledger, superuser(database_url) as connection:
        connection.execute(f"{UNGUARDED}; {FREE}".encode())
        connection.execute("UPDATE ledger.execution_heads SET erasures = NULL")

        assert not ledger.audit.verify(PROJECT).is_intact


def test_rows_of_no_project_are_found(books: Books) -> None:
    books.tamper(
        "SET session_replication_role = replica",
        *(
            f"ALTER TABLE ledger.{table} DROP CONSTRAINT {table}_pkey CASCADE,"
            " ALTER project_id DROP NOT NULL"
            for table in ("execution_ledger", "execution_heads", "execution_erasures")
        ),
        *(
            f"INSERT INTO ledger.{table} SELECT (jsonb_populate_record(t, '{changed}')).*"
            f" FROM ledger.{table} t LIMIT 1"
            for table, changed in (
                ("execution_heads", '{"project_id": null}'),
                ("execution_erasures", '{"project_id": null}'),
            )
        ),
        "UPDATE ledger.execution_ledger SET project_id = NULL WHERE sequence = 3",
    )
    found = books.ledger.audit.verify_all()

    assert not found.is_intact
    for table in ("execution_ledger", "execution_heads", "execution_erasures"):
        assert f"{table}: 1 rows of no project" in found.unguarded


def test_erasures_at_once_are_one_chain(database_url: str) -> None:
    runs = [execution(f"run {n}", project_id=PROJECT) for n in range(24)]
    with audited(database_url, *runs) as ledger:

        def erase(first: int) -> None:
            with Ledger.connect(database_url) as own:
                for n in range(first, 24, 4):
                    own.audit.erase_payload(f"run {n}", "a request")

        def record() -> None:
            with Ledger.connect(database_url) as own:
                for n in range(24, 36):
                    own.audit.record_execution(execution(f"run {n}"))

        at_once(record, *(lambda first=first: erase(first) for first in range(4)))
        found = ledger.audit.verify(PROJECT)

    assert (found.is_intact, found.rows, found.erased) == (True, 36, 24)


def test_an_erasure_that_is_undone_leaves_the_next_its_number(books: Books) -> None:
    with superuser(books.url) as connection, connection.transaction(force_rollback=True):
        connection.execute("SELECT ledger.erase_execution('run 2', 'undone')")
    books.ledger.audit.erase_payload("run 4", "a request")

    assert sql(books.url, "SELECT max(number) FROM ledger.execution_erasures") == [(3,)]
    assert books.fault(books.taken) is None
