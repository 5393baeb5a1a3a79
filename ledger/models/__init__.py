"""What the ledger's tables are."""
