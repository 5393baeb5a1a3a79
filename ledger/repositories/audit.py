"""The execution ledger: what agents did, write-once, and proof that nobody changed it."""

from __future__ import annotations

from ledger.repositories.audit_verifying import AsyncAuditVerifying, AuditVerifying
from ledger.repositories.audit_writes import AsyncAuditWrites, AuditWrites
from ledger.repositories.methods import writes
from ledger.repositories.repository import AsyncRepository, Repository
from ledger.write.erasures import erase_payload


class _Audit:
    """What is the same called and awaited."""

    erase_payload = writes(erase_payload)


class Audit(_Audit, Repository, AuditWrites, AuditVerifying):
    """The execution ledger.

    Every method raises SchemaNotReady where the database has no ledger, and
    DatabaseUnavailable where it cannot be reached.
    """


class AsyncAudit(_Audit, AsyncRepository, AsyncAuditWrites, AsyncAuditVerifying):
    """The execution ledger, awaited."""
