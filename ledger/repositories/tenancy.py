"""Who uses models and who serves them, as the host application says."""

from __future__ import annotations

from ledger.repositories.methods import writes
from ledger.repositories.repository import AsyncRepository, Repository
from ledger.write import tenancy


class _Tenancy:
    """What is the same called and awaited."""

    set_tier = writes(tenancy.set_tier)
    upsert_user = writes(tenancy.upsert_user)
    upsert_provider = writes(tenancy.upsert_provider)
    upsert_project = writes(tenancy.upsert_project)


class Tenancy(_Tenancy, Repository):
    """Users and their tiers, providers, and projects."""


class AsyncTenancy(_Tenancy, AsyncRepository):
    """Users and their tiers, providers, and projects, awaited."""
