"""The execution ledger: what agents did, write-once, and proof that nobody changed it."""

from __future__ import annotations

from ledger.queries.execution_allocation import allocate_costs
from ledger.queries.execution_anomalies import anomalies
from ledger.queries.execution_attribution import step_costs, tool_costs
from ledger.queries.execution_statistics import (
    agent_cost_statistics,
    project_execution_statistics,
)
from ledger.queries.execution_trees import execution_tree
from ledger.queries.executions import (
    executions_by_agent,
    executions_by_project,
    failed_executions,
)
from ledger.repositories.audit_execution import AsyncAuditExecution, AuditExecution
from ledger.repositories.audit_export import AsyncAuditExport, AuditExport
from ledger.repositories.audit_streams import AsyncAuditStreams, AuditStreams
from ledger.repositories.audit_verifying import AsyncAuditVerifying, AuditVerifying
from ledger.repositories.audit_writes import AsyncAuditWrites, AuditWrites
from ledger.repositories.methods import reads, writes
from ledger.repositories.repository import AsyncRepository, Repository
from ledger.write.erasures import erase_payload


class _Audit:
    """What is the same called and awaited."""

    erase_payload = writes(erase_payload)
    executions_by_project = reads(executions_by_project)
    executions_by_agent = reads(executions_by_agent)
    failed_executions = reads(failed_executions)
    agent_cost_statistics = reads(agent_cost_statistics)
    project_execution_statistics = reads(project_execution_statistics)
    execution_tree = reads(execution_tree)
    tool_costs = reads(tool_costs)
    step_costs = reads(step_costs)
    anomalies = reads(anomalies)
    allocate_costs = reads(allocate_costs)


class Audit(
    _Audit, Repository, AuditExecution, AuditWrites, AuditStreams, AuditExport, AuditVerifying
):
    """The execution ledger.

    Every method raises SchemaNotReady where the database has no ledger, and
    DatabaseUnavailable where it cannot be reached.
    """


class AsyncAudit(
    _Audit,
    AsyncRepository,
    AsyncAuditExecution,
    AsyncAuditWrites,
    AsyncAuditStreams,
    AsyncAuditExport,
    AsyncAuditVerifying,
):
    """The execution ledger, awaited."""
