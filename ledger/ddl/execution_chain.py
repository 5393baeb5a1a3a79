"""The chain of the execution ledger: the routines that append to it, and what refuses the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.ddl import execution_appending as appending
from ledger.ddl import execution_erasing as erasing
from ledger.ddl import execution_hashing as hashing
from ledger.ddl.facts import Fact, Holds, TriggerIs, routine_facts
from ledger.ddl.routines import drop_routine, make_routine
from ledger.ddl.steps import Step

if TYPE_CHECKING:
    from ledger.ddl.objects import ExecutionChain

_BEFORE_AGGREGATE: Final = (hashing.ENCODING, hashing.DIGESTS, hashing.LINK)
_AFTER_AGGREGATE: Final = (
    appending.APPEND,
    appending.EXTEND,
    appending.ADVANCE,
    appending.BEGIN,
    erasing.GUARD,
    erasing.LINK,
    erasing.CARRY_OUT,
    erasing.ERASE,
    appending.BY_RUN,
)
ROUTINES: Final = (*_BEFORE_AGGREGATE, *_AFTER_AGGREGATE)


def triggers(target: ExecutionChain) -> dict[str, tuple[str, str]]:
    """The table and the statement of each trigger, by name.

    Not ALWAYS: a replica's or a restore's replay brings rows that are linked already, and
    heads beside them.
    """
    extends, begins = f"{target.name}_extends_chain", f"{appending.HEADS}_begin_at_nothing"
    links, erases = f"{appending.ERASURES}_are_linked", f"{appending.ERASURES}_are_carried_out"
    return {
        extends: (
            target.name,
            (
                f"CREATE OR REPLACE TRIGGER {extends} AFTER INSERT ON ledger.{target.name}"
                " REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT"
                f" EXECUTE FUNCTION ledger.{appending.EXTEND.name}()"
            ),
        ),
        begins: (
            appending.HEADS,
            (
                f"CREATE OR REPLACE TRIGGER {begins} BEFORE INSERT ON ledger.{appending.HEADS}"
                f" FOR EACH ROW EXECUTE FUNCTION ledger.{appending.BEGIN.name}()"
            ),
        ),
        links: (
            appending.ERASURES,
            (
                f"CREATE OR REPLACE TRIGGER {links} BEFORE INSERT ON ledger.{appending.ERASURES}"
                f" FOR EACH ROW EXECUTE FUNCTION ledger.{erasing.LINK.name}()"
            ),
        ),
        erases: (
            appending.ERASURES,
            (
                f"CREATE OR REPLACE TRIGGER {erases} AFTER INSERT ON ledger.{appending.ERASURES}"
                f" FOR EACH ROW EXECUTE FUNCTION ledger.{erasing.CARRY_OUT.name}()"
            ),
        ),
    }


def create(target: ExecutionChain) -> list[Step]:
    """Make the routines and the triggers."""
    return [
        *(step for routine in _BEFORE_AGGREGATE for step in make_routine(routine)),
        Step(sql=hashing.MAKE_CHAINED),
        *(step for routine in _AFTER_AGGREGATE for step in make_routine(routine)),
        *(Step(sql=statement) for _, statement in triggers(target).values()),
    ]


def drop(target: ExecutionChain) -> list[Step]:
    """Take them away; the rows stay as they are linked."""
    return [
        *(
            Step(sql=f"DROP TRIGGER IF EXISTS {name} ON ledger.{table}")
            for name, (table, _) in triggers(target).items()
        ),
        *(drop_routine(routine.name) for routine in reversed(_AFTER_AGGREGATE)),
        Step(sql=f"DROP AGGREGATE IF EXISTS ledger.{hashing.CHAINED}(bytea, bytea)"),
        *(drop_routine(routine.name) for routine in reversed(_BEFORE_AGGREGATE)),
    ]


def facts(target: ExecutionChain) -> list[Fact]:
    """Routines, aggregate and triggers are as they should be."""
    return [
        *(fact for routine in ROUTINES for fact in routine_facts(routine)),
        Holds(
            query=f"SELECT aggtransfn = to_regproc('ledger.{hashing.LINK.name}') AND agginitval"
            " IS NULL AND aggkind = 'n'"
            " AND (aggfinalfn, aggmtransfn, aggcombinefn)::text = '(-,-,-)'"
            f" FROM pg_aggregate WHERE aggfnoid = to_regproc('ledger.{hashing.CHAINED}')",
            otherwise=f"the aggregate {hashing.CHAINED} is missing or was changed",
        ),
        *(
            TriggerIs(table=table, name=name, statement=statement, enabled="O")
            for name, (table, statement) in triggers(target).items()
        ),
    ]
