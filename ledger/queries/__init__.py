"""What can be asked of the ledger: pure functions from parameters to a statement and its result."""
