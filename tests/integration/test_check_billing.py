"""`check` sees what was changed behind the billing ledger's back, and warns of deltas that wait."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger import Window
from ledger.ddl import migrate
from ledger.ddl.warnings import MOST_UNFOLDED
from tests.databases import Target
from tests.integration.test_check import Drift, drift, expect
from tests.ledgers import NOW, books_at
from tests.roles import roles_of
from tests.writers import sql, superuser

USAGE = "ledger.token_usage_ledger"

DRIFTS = [
    drift(
        "disabled guard",
        f"ALTER TABLE {USAGE} DISABLE TRIGGER token_usage_ledger_keeps_rows",
        reports="trigger token_usage_ledger_keeps_rows on token_usage_ledger is disabled",
    ),
    drift(
        "guard on origin only",
        f"ALTER TABLE {USAGE} ENABLE TRIGGER token_usage_ledger_refuses_change",
        reports="trigger token_usage_ledger_refuses_change on token_usage_ledger is on origin only",
    ),
    drift(
        "dropped guard",
        "DROP TRIGGER tiers_refuses_truncate ON ledger.tiers",
        reports="trigger tiers_refuses_truncate on tiers is missing",
    ),
    drift(
        "guard that lets go",
        "CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql"
        " SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NEW; END'",
        reports="routine refuse_change was changed",
    ),
    drift(
        "rule that swallows",
        f"CREATE RULE swallow AS ON INSERT TO {USAGE} DO INSTEAD NOTHING",
        reports="rule swallow is not declared",
        alembic_sees=False,
    ),
    drift(
        "row security off",
        f"ALTER TABLE {USAGE} DISABLE ROW LEVEL SECURITY",
        reports="row level security of token_usage_ledger is off",
    ),
    drift(
        "policy that shows all",
        f"ALTER POLICY of_users ON {USAGE} USING (true)",
        reports="policy of_users on token_usage_ledger was changed",
    ),
    drift(
        "policy of somebody",
        f"CREATE POLICY rogue ON {USAGE} FOR SELECT USING (true)",
        reports="token_usage_ledger has a policy that no grant made",
    ),
    drift(
        "index of another INCLUDE",
        "DROP INDEX ledger.idx_token_usage_success",
        f"CREATE INDEX idx_token_usage_success ON {USAGE} (created_at)"
        " WHERE status = 'success' AND kind = 'usage'",
        reports="index idx_token_usage_success is CREATE INDEX",
    ),
    drift(
        "index whose build failed",
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = 'ledger.idx_token_usage_analytics'::regclass",
        reports="(INVALID)",
    ),
    drift(
        "lost foreign key",
        f"ALTER TABLE {USAGE} DROP CONSTRAINT token_usage_ledger_user_id_fkey",
        reports="constraint token_usage_ledger_user_id_fkey is missing",
    ),
    drift(
        "foreign key that cascades",
        f"ALTER TABLE {USAGE} DROP CONSTRAINT token_usage_ledger_price_id_fkey",
        f"ALTER TABLE {USAGE} ADD CONSTRAINT token_usage_ledger_price_id_fkey"
        " FOREIGN KEY (price_id) REFERENCES ledger.model_prices (id) ON DELETE CASCADE",
        reports="constraint token_usage_ledger_price_id_fkey is FOREIGN KEY",
    ),
    drift(
        "sums of another shape",
        "ALTER TABLE ledger.token_usage_hours ADD COLUMN rogue integer",
        reports="table token_usage_hours: column rogue is not declared",
    ),
    drift(
        "no more deltas",
        f"ALTER TABLE {USAGE} DISABLE TRIGGER token_usage_ledger_adds_to_sums",
        reports="trigger token_usage_ledger_adds_to_sums on token_usage_ledger is disabled",
    ),
    drift(
        "fold of somebody",
        "CREATE OR REPLACE FUNCTION ledger.fold_token_usage_deltas() RETURNS integer"
        " LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN 0; END'",
        reports="routine fold_token_usage_deltas was changed",
    ),
]


@pytest.mark.parametrize("drift", DRIFTS, ids=str)
def test_drift_is_reported(drift: Drift, database_url: str, target: Target) -> None:
    expect(drift, database_url, target)


def test_policies_of_grants_are_no_drift(database_url: str) -> None:
    with roles_of(database_url) as roles:
        for kind in ("service", "auditor", "writer"):
            roles.granted(kind)
        assert [found for found in migrate.check(database_url) if not found.is_warning] == []


def test_deltas_that_nobody_folds_are_a_warning(database_url: str) -> None:
    with books_at(database_url) as books:
        for many, warned in ((MOST_UNFOLDED, False), (1, True)):
            sql(
                books.url,
                "INSERT INTO ledger.token_usage_deltas SELECT now(), id, 'm', 'success', 'pro',"
                f" {', '.join(['0'] * 13)}, '{{}}' FROM ledger.providers,"
                f" generate_series(1, {many})",
            )
            found = [each for each in migrate.check(books.url) if "ledger maintain" in each.problem]
            assert [each.is_warning for each in found] == [True] * warned


def test_a_role_that_may_not_compare_is_told_who_does(database_url: str) -> None:
    with roles_of(database_url) as roles:
        found = migrate.check(roles.granted("auditor").url)
    assert found
    assert all("check as the ledger's owner: permission denied" in str(each) for each in found)


def test_foreign_keys_that_nobody_enforces_are_found_and_what_they_let_go_too(
    database_url: str,
) -> None:
    with books_at(database_url) as books:
        books.ledger.billing.record_usage(books.usage())
        with superuser(database_url) as owner:
            owner.execute(b"ALTER TABLE ledger.users DISABLE TRIGGER ALL")
            owner.execute(b"DELETE FROM ledger.users")
        found = [str(each) for each in migrate.check(database_url)]
        assert any("token_usage_ledger_user_id_fkey is not enforced" in each for each in found)
        window = Window(start=NOW - timedelta(days=1), end=NOW)
        [difference] = books.ledger.billing.reconcile(window).charges.differences.first
        assert (difference.what, difference.stored) == ("user_id", str(books.user))
