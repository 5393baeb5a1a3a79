"""The `ledger` command."""
