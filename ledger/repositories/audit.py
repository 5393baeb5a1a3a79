"""The execution ledger: what agents did, write-once, and proof that nobody changed it."""

from __future__ import annotations

from ledger.queries.execution_statistics import (
    agent_cost_statistics,
    project_execution_statistics,
)
from ledger.repositories.audit_verifying import AsyncAuditVerifying, AuditVerifying
from ledger.repositories.audit_writes import AsyncAuditWrites, AuditWrites
from ledger.repositories.methods import reads, writes
from ledger.repositories.repository import AsyncRepository, Repository
from ledger.write.erasures import erase_payload


class _Audit:
    """What is the same called and awaited."""

    erase_payload = writes(erase_payload)
    agent_cost_statistics = reads(agent_cost_statistics)
    project_execution_statistics = reads(project_execution_statistics)


class Audit(_Audit, Repository, AuditWrites, AuditVerifying):
    """The execution ledger.

    Every method raises SchemaNotReady where the database has no ledger, and
    DatabaseUnavailable where it cannot be reached.
    """


class AsyncAudit(_Audit, AsyncRepository, AsyncAuditWrites, AsyncAuditVerifying):
    """The execution ledger, awaited."""
