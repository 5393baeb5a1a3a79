"""What the ledger's tables are; with any of them, all of them are in the metadata."""

from ledger.models import access, audit, billing, installation, prices, telemetry, tenancy

__all__ = ["access", "audit", "billing", "installation", "prices", "telemetry", "tenancy"]
