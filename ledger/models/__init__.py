"""What the ledger's tables are; with any of them, all of them are in the metadata."""

from ledger.models import access, billing, installation, prices, telemetry, tenancy

__all__ = ["access", "billing", "installation", "prices", "telemetry", "tenancy"]
