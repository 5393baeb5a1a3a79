"""Whether the execution ledger is as it was written."""
